"""Pinhole cameras, and the one place where camera axes meet clip space.

Letters: v views. Frames are named by what they map: `a_from_b @ point_in_b = point_in_a`.
Camera frame: +x right, +y down, +z forward (OpenCV). Clip frame: +x right, +y up (OpenGL).
Pixel (0, 0) is the top left one, and its centre lies at (0.5, 0.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Cameras", "clip_from_world", "look_at"]


@dataclass(frozen=True)
class Cameras:
    """Calibrated pinhole cameras that share one image size."""

    world_from_camera: Float[Tensor, "v 4 4"]  # rigid motions
    focal_px: Float[Tensor, "v 2"]
    centre_px: Float[Tensor, "v 2"]
    height: int
    width: int
    camera_from_world: Float[Tensor, "v 4 4"] | None = None  # where it is worked out already

    def __len__(self) -> int:
        """The number of views."""
        return len(self.world_from_camera)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "Cameras":
        """The cameras at `index`; always a batch, also for one integer."""
        if isinstance(index, int):
            index = [index]
        if not isinstance(index, slice | Tensor):
            index = list(index)
        return Cameras(
            self.world_from_camera[index],
            self.focal_px[index],
            self.centre_px[index],
            self.height,
            self.width,
        )

    @property
    def positions(self) -> Float[Tensor, "v 3"]:
        """Camera centres in world units."""
        return self.world_from_camera[:, :3, 3]

    def resized(self, height: int, width: int) -> "Cameras":
        """The same views with another number of pixels."""
        scale = self.focal_px.new_tensor([width / self.width, height / self.height])
        return Cameras(
            self.world_from_camera, self.focal_px * scale, self.centre_px * scale, height, width
        )

    def inverted(self) -> "Cameras":
        """The same cameras with `camera_from_world` worked out."""
        # inv() would wait for a device, to look whether there is an inverse.
        inverse, _ = torch.linalg.inv_ex(self.world_from_camera)
        return replace(self, camera_from_world=inverse)

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return Cameras(
            self.world_from_camera.to(device),
            self.focal_px.to(device),
            self.centre_px.to(device),
            self.height,
            self.width,
        )


def clip_from_world(cameras: Cameras, near: float, far: float) -> Float[Tensor, "v 4 4"]:
    """Matrices that take world points to OpenGL clip space.

    Depth `near` lands on z/w = -1 and `far` on +1. Principal points off the centre and
    non-square pixels are kept.

    Raises:
        ValueError: unless 0 < near < far.
    """
    if not 0.0 < near < far:
        raise ValueError(f"need 0 < near < far, got near={near}, far={far}")
    size = torch.empty_like(cameras.focal_px)
    size[:, 0], size[:, 1] = cameras.width, cameras.height
    scale = 2.0 * cameras.focal_px / size  # [v, 2]
    shift = 2.0 * cameras.centre_px / size - 1.0  # [v, 2]
    clip_from_camera = torch.zeros_like(cameras.world_from_camera)
    clip_from_camera[:, 0, 0], clip_from_camera[:, 0, 2] = scale[:, 0], shift[:, 0]
    clip_from_camera[:, 1, 1], clip_from_camera[:, 1, 2] = -scale[:, 1], -shift[:, 1]
    clip_from_camera[:, 2, 2] = (far + near) / (far - near)
    clip_from_camera[:, 2, 3] = -2.0 * far * near / (far - near)
    clip_from_camera[:, 3, 2] = 1.0
    inverse = cameras.camera_from_world
    if inverse is None:
        inverse = cameras.inverted().camera_from_world
    assert inverse is not None
    clip: Tensor = clip_from_camera @ inverse
    return clip


def look_at(
    positions: Float[Tensor, "v 3"],
    target: Float[Tensor, " 3"],
    up: Float[Tensor, " 3"],
) -> Float[Tensor, "v 4 4"]:
    """`world_from_camera` of cameras that look from `positions` at `target`.

    A view along `up` takes another axis for up, so the result is always a rotation.
    """
    forward = torch.nn.functional.normalize(target - positions, dim=-1)
    up = up.expand_as(forward)
    parallel = (forward * up).sum(-1, keepdim=True).abs() > 0.9999 * up.norm(
        dim=-1, keepdim=True
    )
    up = torch.where(parallel, up.roll(1, dims=-1), up)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up, dim=-1), dim=-1)
    down = torch.linalg.cross(forward, right, dim=-1)
    pose = torch.eye(4, dtype=positions.dtype).repeat(len(positions), 1, 1)
    pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2] = right, down, forward
    pose[:, :3, 3] = positions
    return pose
