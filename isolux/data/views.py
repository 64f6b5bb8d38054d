"""Views: pictures with their cameras, and batches of them.

Letters: v views, h, w pixels. Colours are linear and straight, alpha is coverage.
"""

import copy
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isolux.data.assets.image import load_data_image, load_image, read_image, resize
from isolux.geometry.cameras import Cameras

__all__ = ["Batch", "Size", "StoredViews", "Views", "check_cameras", "fit_size", "load_image"]

Size = int | tuple[int, int] | None  # pixels: the longer side, (height, width), or as it is

_MASK_FOLDERS = ("masks", "mask")
_MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG")
_MASKS_NEEDED = (
    "masks are needed: give RGBA pictures, or a folder 'masks' beside the pictures with"
    " files of the same names, white on the object"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Some views of one size."""

    cameras: Cameras
    rgb: Float[Tensor, "v h w 3"]  # linear, not premultiplied; zero where alpha is zero
    alpha: Float[Tensor, "v h w 1"]  # coverage, in [0, 1]
    names: tuple[str, ...]  # unique within the scene; they name the files of evaluation


class Views(ABC):
    """A numbered set of views of one size: view i is the same picture whenever it is asked."""

    @property
    @abstractmethod
    def cameras(self) -> Cameras:
        """All cameras, at the size of the pictures, on the processor."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """All names."""

    @property
    def files(self) -> tuple[Path, ...] | None:
        """The pictures' files; none for views that are drawn."""
        return None

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Batch:
        """The views at `indices`, in that order; repeated and no indices are fine.

        On the device that the views were made for.
        """

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.cameras.height, self.cameras.width

    def __len__(self) -> int:
        """The number of views."""
        return len(self.cameras)


class StoredViews(Views):
    """Views kept in memory at the size at which they are used (16 bytes a pixel).

    Args:
        cameras: of the pictures, at their size.
        rgba: linear straight colours and alpha, at the same size.
        names: one for each view.
        scene: where they come from, for messages.
        files: that the pictures were read from.

    Raises:
        ValueError: no views; alpha that is zero in all views, or one in all views.

    Attributes:
        empty_masks: how many views show nothing of the object; a warning names them.
    """

    def __init__(
        self,
        cameras: Cameras,
        rgba: Sequence[Float[Tensor, "h w 4"]],
        names: Sequence[str],
        scene: Path | str = "scene",
        files: Sequence[Path] | None = None,
    ) -> None:
        self._files = None if files is None else tuple(files)
        if not rgba or not len(rgba) == len(names) == len(cameras):
            raise ValueError(
                f"{scene}: {len(rgba)} pictures, {len(names)} names, {len(cameras)} cameras;"
                " there must be as many of each, and at least one"
            )
        self._cameras, self._rgba, self._names = cameras, list(rgba), tuple(names)
        self._device = torch.device("cpu")
        alphas = [view[..., 3] for view in rgba]
        empty = [name for name, alpha in zip(names, alphas, strict=True) if alpha.max() <= 0]
        self.empty_masks = len(empty)
        if self.empty_masks == len(rgba):
            raise ValueError(
                f"{scene}: alpha is zero in all {len(rgba)} views; {_MASKS_NEEDED}"
            )
        if all(alpha.min() >= 1 for alpha in alphas):
            raise ValueError(f"{scene}: alpha is one everywhere in all views; {_MASKS_NEEDED}")
        if empty:
            _log.warning(
                "%s: %d of %d masks are empty: %s", scene, len(empty), len(rgba), empty[:3]
            )

    @classmethod
    def from_files(
        cls,
        files: Sequence[Path],
        cameras: Cameras,
        size: Size = None,
        index: Path | str = "scene",
    ) -> "StoredViews":
        """Reads pictures, with masks beside them where they have no alpha.

        Args:
            files: one for each camera.
            cameras: at the size of the files.
            size: to bring them to.
            index: the file that names them, for messages.

        Raises:
            FileNotFoundError: some are absent: how many, and the first three.
            ValueError: pictures that are damaged, differ in size, or have no masks.
        """
        if missing := [str(file) for file in files if not file.is_file()]:
            raise FileNotFoundError(
                f"{index}: names {len(missing)} absent pictures of {len(files)}: {missing[:3]}"
            )
        height, width = fit_size((cameras.height, cameras.width), size)

        def load(file: Path) -> Float[Tensor, "h w 4"]:
            rgba = _load_masked(file)
            if tuple(rgba.shape[:2]) != (cameras.height, cameras.width):
                raise ValueError(
                    f"{file}: is {rgba.shape[1]}x{rgba.shape[0]}, others are"
                    f" {cameras.width}x{cameras.height}; views must share one size"
                )
            return resize(rgba, height, width).contiguous()

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            rgba = list(pool.map(load, files))
        names = _unique_names(files)
        return cls(cameras.resized(height, width), rgba, names, index, files)

    @property
    def cameras(self) -> Cameras:
        """All cameras."""
        return self._cameras

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return self._names

    @property
    def files(self) -> tuple[Path, ...] | None:
        """The files that they were read from."""
        return self._files

    def to(self, device: torch.device | str) -> "StoredViews":
        """The same views with their batches on another device.

        The pictures are kept there too, unless they would take more than half of what is free.
        """
        there = copy.copy(self)
        there._device = torch.device(device)
        if sum(view.nbytes for view in self._rgba) <= _room(there._device):
            there._rgba = [view.to(device) for view in self._rgba]
        return there

    def batch(self, indices: Sequence[int]) -> Batch:
        """The views at `indices`."""
        height, width = self.size
        picked = [self._rgba[i] for i in indices]
        rgba = torch.stack(picked) if picked else torch.zeros(0, height, width, 4)
        rgba = rgba.to(self._device)
        return Batch(
            self._cameras[list(indices)].to(self._device),
            rgba[..., :3].contiguous(),
            rgba[..., 3:].contiguous(),
            tuple(self._names[i] for i in indices),
        )


def _room(device: torch.device) -> float:
    """Bytes that pictures may take on a device."""
    return 0.5 * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def fit_size(own: tuple[int, int], size: Size) -> tuple[int, int]:
    """Height and width that a picture of `own` size takes.

    One number is the longer side, and the shape is kept; None keeps the size.

    Raises:
        ValueError: a size below one pixel.
    """
    if size is None:
        return own
    if isinstance(size, int):
        scale = max(size, 0) / max(own)
        shorter = max(round(min(own) * scale), min(size, 1))
        size = (size, shorter) if own[0] >= own[1] else (shorter, size)
    if min(size) < 1:
        raise ValueError(f"size must be at least one pixel, got {size}")
    return size


def _unique_names(files: Sequence[Path]) -> list[str]:
    """Stems where they differ, else the last folder and the stem."""
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        names = [f"{file.parent.name}_{file.stem}" for file in files]
    if len(set(names)) < len(names):
        names = [f"{number:04d}_{name}" for number, name in enumerate(names)]
    return names


def _load_masked(file: Path) -> Float[Tensor, "h w 4"]:
    rgb, alpha = read_image(file)
    if alpha is None or bool((alpha >= 1).all()):
        mask_file = _mask_beside(file)
        if mask_file is not None:
            alpha = load_data_image(mask_file)[..., :1]
            if alpha.shape[:2] != rgb.shape[:2]:
                raise ValueError(
                    f"{mask_file}: is {alpha.shape[1]}x{alpha.shape[0]}, its picture"
                    f" {rgb.shape[1]}x{rgb.shape[0]}; they must be of one size"
                )
    if alpha is None:
        raise ValueError(f"{file}: has no alpha channel; {_MASKS_NEEDED}")
    # What lies under zero coverage is arbitrary in files; here it is nothing.
    return torch.cat([torch.where(alpha > 0, rgb, 0.0), alpha], dim=-1)


def _mask_beside(file: Path) -> Path | None:
    """`masks/NAME.*` in the picture's folder or in the one above."""
    for parent in (file.parent, file.parent.parent):
        for folder in _MASK_FOLDERS:
            if not (parent / folder).is_dir():
                continue
            for inner in (parent / folder, parent / folder / file.parent.name):
                for name in (file.stem, file.name):
                    for suffix in _MASK_SUFFIXES:
                        if (found := inner / f"{name}{suffix}").is_file():
                            return found
    return None


def axes_meet(cameras: Cameras) -> tuple[Float[Tensor, " 3"], Bool[Tensor, " v"]]:
    """Where the optical axes meet best (least squares), and which cameras have it behind them.

    For parallel axes the point is the one nearest to the cameras' mean. No cameras: the
    origin.
    """
    if not len(cameras):
        return torch.zeros(3), torch.zeros(0, dtype=torch.bool)
    pose = cameras.world_from_camera.double()
    axis, centre = pose[:, :3, 2], pose[:, :3, 3]
    axis = axis / axis.norm(dim=-1, keepdim=True)
    across = torch.eye(3, dtype=pose.dtype) - axis[:, :, None] * axis[:, None, :]  # [v, 3, 3]
    mean = centre.mean(0)
    right = (across @ (centre - mean)[..., None]).sum(0)[:, 0]
    point = mean + torch.linalg.pinv(across.sum(0), rtol=1e-6) @ right
    reach = (point - centre).norm(dim=-1)
    away = ((point - centre) * axis).sum(-1) < -1e-6 * reach
    return point.to(cameras.world_from_camera.dtype), away


def check_cameras(cameras: Cameras, scene: Path | str = "scene") -> None:
    """Looks whether the cameras face what they have in common.

    Logs a warning when a few look away from the point where their axes meet.

    Raises:
        ValueError: when more than half do; then the axes are of another convention.
    """
    _, away = axes_meet(cameras)
    count = int(away.sum())
    if 2 * count > len(cameras) and len(cameras) > 1:
        raise ValueError(
            f"{scene}: {count} of {len(cameras)} cameras look away from the point where their"
            " axes meet; transforms.json needs Blender's axes (x right, y up, looking to -z):"
            " negate the second and third columns of poses in OpenCV's"
        )
    if count:
        which = away.nonzero().flatten().tolist()[:3]
        _log.warning(
            "%s: %d of %d cameras look away from the others' object, views %s",
            scene, count, len(cameras), which,
        )  # fmt: skip
