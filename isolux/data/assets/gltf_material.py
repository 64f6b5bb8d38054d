"""Materials of glTF: metal-rough, with textures times factors (section 3.9)."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.data.assets.image import decode_picture, linear_from_integers
from isolux.data.assets.textures import TextureSet

__all__ = ["Textures"]

_log = logging.getLogger(__name__)


class Textures:
    """The pictures of a file, decoded when a material asks.

    Args:
        tree: the file's JSON.
        path: for messages.
        view: bytes of a buffer view.
        uri: bytes behind an address.
    """

    def __init__(
        self,
        tree: dict[str, Any],
        path: Path,
        view: Callable[[int], bytes],
        uri: Callable[[str], bytes],
    ) -> None:
        self._tree, self._path, self._view, self._uri = tree, path, view, uri
        self._decoded: dict[int, tuple[Any, int]] = {}

    def material(self, number: int) -> TextureSet:
        """Material `number`, or the specification's default (white, rough metal) for -1.

        A picture that is absent or damaged is warned of in the log and counts as white.

        Raises:
            KeyError, IndexError: the file refers to what is not there.
            ValueError: a factor that is no number.
        """
        entry = self._tree["materials"][number] if number >= 0 else {}
        pbr = entry.get("pbrMetallicRoughness", {})
        factor = torch.tensor([_number(x) for x in pbr.get("baseColorFactor", [1.0] * 4)[:3]])
        colour = self._integers(pbr.get("baseColorTexture"))
        albedo = torch.ones(1, 1, 3) if colour is None else linear_from_integers(*colour)[0]

        rough_metal = self._values(pbr.get("metallicRoughnessTexture"))
        occluded = self._values(entry.get("occlusionTexture"))
        height, width = np.maximum(rough_metal.shape[:2], occluded.shape[:2]).tolist()
        rough_metal, occluded = (_sized(x, height, width) for x in (rough_metal, occluded))
        strength = _number(entry.get("occlusionTexture", {}).get("strength", 1.0))
        orm = torch.stack(
            [
                (1.0 - occluded[..., 0]) * strength,
                rough_metal[..., 1] * _number(pbr.get("roughnessFactor", 1.0)),
                rough_metal[..., 2] * _number(pbr.get("metallicFactor", 1.0)),
            ],
            dim=-1,
        )
        return TextureSet((albedo * factor).clamp(0, 1), orm.clamp(0, 1), self._normal(entry))

    def _normal(self, entry: dict[str, Any]) -> Float[Tensor, "h w 3"] | None:
        if self._integers(entry.get("normalTexture")) is None:
            return None
        scale = _number(entry["normalTexture"].get("scale", 1.0))
        normal = self._values(entry["normalTexture"]) * 2.0 - 1.0
        normal = normal * torch.tensor([scale, scale, 1.0])
        length = normal.norm(dim=-1, keepdim=True)
        flat = torch.tensor([0.0, 0.0, 1.0])
        return torch.where(length > 1e-3, normal / length.clamp_min(1e-3), flat)

    def _values(self, reference: dict[str, Any] | None) -> Float[Tensor, "h w 3"]:
        """Numbers of [0, 1]; one white texel without a texture."""
        decoded = self._integers(reference)
        if decoded is None:
            return torch.ones(1, 1, 3)
        return torch.from_numpy(decoded[0][..., :3].astype(np.float32)) / decoded[1]

    def _integers(self, reference: dict[str, Any] | None) -> tuple[Any, int] | None:
        if reference is None:
            return None
        if "KHR_texture_transform" in reference.get("extensions", {}):
            _log.warning("%s: texture transforms are not applied", self._path)
        number = self._tree["textures"][reference["index"]].get("source")
        if number is None:
            _log.warning("%s: a texture is in a format that is not read", self._path)
            return None
        if number not in self._decoded:
            image = self._tree["images"][number]
            label = f"{self._path}, image {number}"
            try:
                data = (
                    self._uri(image["uri"])
                    if "uri" in image
                    else self._view(image["bufferView"])
                )
                self._decoded[number] = decode_picture(data, label)
            except (FileNotFoundError, ValueError) as error:
                _log.warning("%s: goes without a texture: %s", self._path, error)
                return None
        return self._decoded[number]


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:  # nor is NaN smaller
        raise ValueError(f"malformed glTF, a material's factor is {value!r}")
    return float(value)


def _sized(image: Float[Tensor, "h w 3"], height: int, width: int) -> Float[Tensor, "a b 3"]:
    if image.shape[:2] == (height, width):
        return image
    planes = image.permute(2, 0, 1)[None]
    planes = torch.nn.functional.interpolate(planes, (height, width), mode="bilinear")
    return planes[0].permute(1, 2, 0)
