"""Material files of OBJ (.mtl).

Two dialects are told apart by the line `bsdf`: nvdiffrec's, where Ks is occlusion, roughness
and metalness, and everybody else's, where Pr and Pm (or the shininess Ns) say these.
"""

import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.data.assets.image import load_data_image, read_image
from isolux.data.assets.textures import TextureSet
from isolux.render.colour import linear_from_srgb

__all__ = ["read_mtl"]

_log = logging.getLogger(__name__)
_CONSTANTS = {"kd": 3, "ks": 3, "ns": 1, "pr": 1, "pm": 1}
_MAPS = ("map_kd", "map_ks", "map_pr", "map_pm", "norm", "map_bump", "bump")
_ONE = ("-blendu", "-blendv", "-boost", "-bm", "-cc", "-clamp", "-imfchan", "-texres", "-type")


@dataclass
class _Entry:
    constants: dict[str, list[float]] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)
    is_nvdiffrec: bool = False


def read_mtl(path: Path) -> dict[str, TextureSet]:
    """The materials of a file, by name.

    Absent or damaged texture files and bad numbers are warned of in the log, and the
    material's constants or defaults stand in: albedo 0.5 linear, roughness 0.5, no metal.

    Raises:
        FileNotFoundError: no such file.
    """
    entries: dict[str, _Entry] = {}
    current = _Entry()  # lines before any newmtl go nowhere
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        key, _, rest = line.strip().partition(" ")
        if "\t" in key:
            key, _, rest = line.strip().partition("\t")
        key, rest = key.lower(), rest.strip()
        if key == "newmtl":
            current = entries.setdefault(rest, _Entry())
        elif key == "bsdf":
            current.is_nvdiffrec = True
        elif key in _MAPS:
            current.maps[key] = _file_name(rest)
        elif key in _CONSTANTS:
            try:
                numbers = [float(text) for text in rest.split()[: _CONSTANTS[key]]]
            except ValueError:
                numbers = []
            numbers = numbers if all(map(math.isfinite, numbers)) else []
            if len(numbers) == 1:
                numbers *= _CONSTANTS[key]  # one grey value
            if len(numbers) == _CONSTANTS[key]:
                current.constants[key] = numbers
            else:
                _log.warning("%s, line %d: '%s' is not understood", path, number, line.strip())
    return {name: _textures(entry, path, name) for name, entry in entries.items()}


def _file_name(rest: str) -> str:
    """What follows the options; names may hold spaces."""
    words = rest.split()
    while words and words[0].startswith("-") and len(words) > 1:
        option = words.pop(0).lower()
        if option in _ONE:
            words.pop(0)
        elif option == "-mm":
            del words[:2]
        elif option in ("-o", "-s", "-t"):
            for _ in range(3):  # one to three numbers
                if words and _is_number(words[0]) and len(words) > 1:
                    words.pop(0)
    return " ".join(words).strip('"').replace("\\", "/")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _textures(entry: _Entry, path: Path, name: str) -> TextureSet:
    given = entry.constants
    kd = given.get("kd", [0.5, 0.5, 0.5] if entry.is_nvdiffrec else [0.7354] * 3)
    albedo = _map(entry, path, name, "map_kd", colour=True)
    if albedo is None:
        albedo = linear_from_srgb(torch.tensor([[kd]]).clamp(0.0, 1.0))
    if entry.is_nvdiffrec:
        orm = _map(entry, path, name, "map_ks")
        if orm is None:
            orm = torch.tensor([[given.get("ks", [0.0, 0.5, 0.0])]]).clamp(0.0, 1.0)
    else:
        orm = _metal_rough(entry, path, name)
    return TextureSet(albedo, orm, _normal(entry, path, name))


def _metal_rough(entry: _Entry, path: Path, name: str) -> Float[Tensor, "h w 3"]:
    given = entry.constants
    # Blinn-Phong's exponent as the roughness of a lobe of that width (Walter et al. 2007).
    shiny = max(given["ns"][0], 0.0) if "ns" in given else None
    fallback = 0.5 if shiny is None else (2.0 / (shiny + 2.0)) ** 0.25
    parts = []
    for key, constant in (("pr", given.get("pr", [fallback])), ("pm", given.get("pm", [0.0]))):
        image = _map(entry, path, name, f"map_{key}")
        parts.append(torch.tensor([[constant]]) if image is None else image[..., :1])
    height = max(part.shape[0] for part in parts)
    width = max(part.shape[1] for part in parts)
    rough, metal = (
        torch.nn.functional.interpolate(part.permute(2, 0, 1)[None], (height, width))[0, 0]
        for part in parts
    )
    return torch.stack([torch.zeros_like(rough), rough, metal], dim=-1).clamp(0.0, 1.0)


def _normal(entry: _Entry, path: Path, name: str) -> Float[Tensor, "h w 3"] | None:
    key = next((key for key in ("norm", "map_bump", "bump") if key in entry.maps), None)
    if key is None:
        return None
    image = _map(entry, path, name, key)
    if image is None:
        return None
    if key != "norm" and bool((image[..., :1] == image).all()):
        _log.warning("%s: material %s: grey bump maps are not read", path, name)
        return None
    normal = image * 2.0 - 1.0
    if entry.is_nvdiffrec and key == "bump":  # its green channel points down the picture
        normal = normal * torch.tensor([1.0, -1.0, 1.0])
    flat = torch.tensor([0.0, 0.0, 1.0])
    length = normal.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-3, normal / length.clamp_min(1e-3), flat)


def _map(
    entry: _Entry, path: Path, name: str, key: str, colour: bool = False
) -> Float[Tensor, "h w 3"] | None:
    """A texture, or None after a warning when there is a line for it but no file."""
    if not entry.maps.get(key):
        return None
    file = path.parent / entry.maps[key]
    if not os.path.isfile(
        file
    ):  # absolute paths of another machine: the file often lies beside
        file = path.parent / Path(entry.maps[key]).name
    try:
        if colour or file.suffix.lower() in (".exr", ".hdr"):
            return read_image(file)[0]
        return load_data_image(file)
    except (OSError, ValueError) as error:
        _log.warning("%s: material %s: %s goes without: %s", path, name, key, error)
        return None
