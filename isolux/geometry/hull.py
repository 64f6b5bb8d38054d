"""The visual hull: the largest shape that has the silhouettes that the masks show.

Laurentini 1994. Letters: v views, h w pixels, p points. The hull is a signed distance rather
than a set: in each picture the distance to the silhouette in pixels, scaled to world units at
the point's depth; and over the views the maximum, as for an intersection of solids.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.cameras import Cameras
from isolux.geometry.hull_kernels import carve, distance_to_silhouette

__all__ = ["fit_box", "rays_beside", "visual_hull"]

_LONGEST = 512  # larger masks are halved: a lattice cannot use more
_POINTS = 8192  # a task's points
_FULL = 0.98  # a mask that covers more shows no silhouette
_ROUNDS = 6  # of shrinking the box
_CELLS = 24  # samples along the box's edge in a round

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Silhouettes:
    """Signed pixel distances, and what is needed to look them up, for the views that count."""

    distance: Any  # float32 [v, h, w], negative inside the mask
    camera_from_world: Any  # float64 [v, 3, 4]
    intrinsics: Any  # float64 [v, 4]: focal x y, centre x y
    centroids: Any  # float64 [v, 2], pixels
    open_views: int  # views that are masked all over

    def at(self, points: Any) -> Any:
        """Values float64 [p] at float64 points [p, 3]."""
        values = np.empty(len(points))
        flat = np.ascontiguousarray(points).reshape(-1)
        parallel_for(
            carve,
            [
                (
                    self.distance.reshape(-1),
                    *self.distance.shape,
                    self.camera_from_world.reshape(-1),
                    self.intrinsics.reshape(-1),
                    flat,
                    values,
                    *part,
                )
                for part in chunks(len(points), _POINTS)
            ],
        )
        return values


def visual_hull(
    masks: Float[Tensor, "v h w"], cameras: Cameras
) -> Callable[[Float[Tensor, "p 3"]], Float[Tensor, " p"]]:
    """Signed-distance-like values of the visual hull.

    Where a point falls outside a picture, that view says "outside", unless the mask touches
    the border there, when it says nothing, as it does about points behind its camera. Views
    with an empty mask are left out, with a notice.

    Args:
        masks: coverage in [0, 1].
        cameras: one for each mask.

    Returns:
        A function from world points to values in world units: negative inside, close to a
        distance near the surface. A point of which no view says anything is outside.

    Raises:
        ValueError: when every mask is empty.
    """
    silhouettes = _silhouettes(masks, cameras)
    if silhouettes.open_views == len(silhouettes.distance):
        _log.warning("hull: all masks are full, so the hull is all that the cameras see")

    def values(points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        carved = silhouettes.at(points.detach().double().cpu().numpy())
        return torch.from_numpy(carved).to(points)

    return values


def fit_box(
    masks: Float[Tensor, "v h w"], cameras: Cameras, margin: float = 0.05
) -> tuple[Float[Tensor, " 3"], float]:
    """The cube that holds the visual hull.

    Args:
        masks: coverage in [0, 1].
        cameras: one for each mask; at least two.
        margin: room on each side, as a fraction of the hull's longest side.

    Returns:
        Centre and edge length.

    Raises:
        ValueError: when every mask is empty, or when no point lies in all of them (cameras
            that look away from each other, or poses in another convention).
    """
    silhouettes = _silhouettes(masks, cameras)
    if silhouettes.open_views == len(silhouettes.distance):
        _log.warning(
            "hull: all masks are full; the box is what all cameras see. "
            "Give masks, or geometry.centre and geometry.extent"
        )
    low, high = _start_box(silhouettes)
    for turn in range(_ROUNDS):
        found = _carved_box(silhouettes, low, high, may_grow=turn < _ROUNDS // 2)
        if found is None:
            raise ValueError(
                f"hull: no point of space lies in all {len(silhouettes.distance)} masks. "
                "Do the cameras look at one object, and are poses in the stated convention?"
            )
        settled = (np.abs(found[0] - low) + np.abs(found[1] - high)).max()
        low, high = found
        if settled < 0.02 * (high - low).max():
            break
    closer = _carved_box(silhouettes, low, high, may_grow=False, count=2 * _CELLS)
    low, high = closer or (low, high)
    centre = torch.tensor(0.5 * (low + high), dtype=torch.float32)
    return centre, float((high - low).max() * (1 + 2 * margin))


def rays_beside(
    masks: Float[Tensor, "v h w"],
    cameras: Cameras,
    centre: Float[Tensor, " 3"],
    extent: float,
    most: int = 4096,
) -> float:
    """The share of the masked pixels that see nothing of a cube.

    Such a pixel shows a part of the object that lies outside of the cube, wherever it lies.

    Args:
        masks: coverage in [0, 1].
        cameras: one for each mask.
        centre: of the cube.
        extent: edge length of the cube.
        most: pixels of a view that are looked at, evenly spread.

    Returns:
        Between 0 and 1; 0 without a masked pixel.
    """
    beside = total = 0
    for i, mask in enumerate(masks):
        pixels = (mask.reshape(-1) > 0.5).nonzero()[:, 0]
        pixels = pixels[:: max(1, -(-len(pixels) // most))]
        at = torch.stack([pixels % mask.shape[1], pixels // mask.shape[1]], -1) + 0.5
        flat = (at - cameras.centre_px[i]) / cameras.focal_px[i]
        pose = cameras.world_from_camera[i]
        ray = torch.cat([flat, torch.ones_like(flat[:, :1])], -1) @ pose[:3, :3].T
        # Slabs; a component of zero divides to infinities, which compare as they should.
        sides = torch.stack([centre - 0.5 * extent, centre + 0.5 * extent])[:, None]  # [2,1,3]
        reach = (sides - pose[:3, 3]) / torch.where(ray.abs() < 1e-12, 1e-12, ray)
        near = reach.amin(0).amax(-1).clamp(min=0.0)
        beside += int((near > reach.amax(0).amin(-1)).sum())
        total += len(pixels)
    return beside / total if total else 0.0


def _silhouettes(masks: Tensor, cameras: Cameras) -> _Silhouettes:
    if len(masks) != len(cameras):
        raise ValueError(f"hull: {len(masks)} masks for {len(cameras)} cameras")
    while max(masks.shape[1:]) > _LONGEST and min(masks.shape[1:]) > 1:
        masks = torch.nn.functional.avg_pool2d(masks[:, None].float(), 2, ceil_mode=False)[:, 0]
    height, width = masks.shape[1:]
    cameras = cameras.resized(height, width)
    mask = np.ascontiguousarray(masks.detach().float().cpu().numpy())
    covered = (mask > 0.5).mean(axis=(1, 2)) if mask.size else np.zeros(len(mask))
    used = np.nonzero((mask > 0.5).any(axis=(1, 2)))[0]
    if len(used) == 0:
        raise ValueError(
            f"hull: all {len(mask)} masks are empty. Do the images have an alpha channel?"
        )
    if len(used) < len(mask):
        _log.warning(
            "hull: %d of %d masks are empty; left out", len(mask) - len(used), len(mask)
        )
    mask = mask[used]
    # A picture that is masked all over shows no silhouette: its frame is taken for one.
    frame = np.zeros(mask.shape[1:], bool)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    full = np.asarray((mask > 0.5).all(axis=(1, 2)))
    mask[full[:, None, None] & frame] = 0
    distance = np.empty_like(mask)
    parallel_for(distance_to_silhouette, [(m, d) for m, d in zip(mask, distance, strict=True)])
    weight = np.where(mask > 0.5, mask, 0)
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-9)
    across = (weight.sum(axis=1) * (np.arange(width) + 0.5)).sum(-1) / total
    down = (weight.sum(axis=2) * (np.arange(height) + 0.5)).sum(-1) / total
    inverse = torch.linalg.inv(cameras.world_from_camera.detach().double().cpu())[used]
    intrinsics = torch.cat([cameras.focal_px, cameras.centre_px], -1).detach().double().cpu()
    return _Silhouettes(
        distance,
        np.ascontiguousarray(inverse[:, :3].numpy()),
        np.ascontiguousarray(intrinsics.numpy()[used]),
        np.stack([across, down], -1),
        int((covered[used] > _FULL).sum()),
    )


def _start_box(silhouettes: _Silhouettes) -> tuple[Any, Any]:
    """A cube about the point nearest to the rays through the masks' centroids."""
    rotation = silhouettes.camera_from_world[:, :, :3]  # rows: camera axes in the world
    position = -np.einsum("vij,vi->vj", rotation, silhouettes.camera_from_world[:, :, 3])
    focal, centre = silhouettes.intrinsics[:, :2], silhouettes.intrinsics[:, 2:]
    in_camera = (silhouettes.centroids - centre) / focal
    ray = np.concatenate([in_camera, np.ones_like(in_camera[:, :1])], -1)
    ray = np.einsum("vij,vi->vj", rotation, ray)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    across = np.eye(3) - ray[:, :, None] * ray[:, None]  # [v, 3, 3], to the ray
    spread = np.linalg.norm(position - position.mean(0), axis=-1).max()
    if np.linalg.eigvalsh(across.mean(0))[0] < 1e-6:
        raise ValueError(
            f"hull: views with a mask ({len(ray)}) all look along one direction; "
            "give geometry.centre and geometry.extent"
        )
    middle = np.linalg.solve(across.sum(0), np.einsum("vij,vj->i", across, position))
    ahead = ((middle - position) * ray).sum(-1)
    if np.median(ahead) <= 0:
        raise ValueError(
            "hull: the cameras look away from each other (their rays meet behind them). "
            "Are poses camera-to-world, and in the stated convention?"
        )
    half = max(np.median(np.abs(ahead)), 1e-6 * spread)
    return middle - half, middle + half


def _carved_box(
    silhouettes: _Silhouettes, low: Any, high: Any, may_grow: bool, count: int = _CELLS
) -> tuple[Any, Any] | None:
    """The box of those cells of a box that may hold a part of the hull, or None."""
    for _ in range(3):
        cell = (high - low) / count
        steps = [low[i] + (np.arange(count) + 0.5) * cell[i] for i in range(3)]
        grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
        # A cell is kept when the surface may pass through it: half a diagonal, and some more
        # because the values are distances only nearly.
        inside = silhouettes.at(grid) < 0.6 * np.linalg.norm(cell)
        if inside.any():
            break
        count *= 2
    else:
        return None
    kept = grid[inside]
    first, last = kept.min(0) - 0.5 * cell, kept.max(0) + 0.5 * cell
    if may_grow:  # a hull that reaches the border of the first box goes on beyond it
        room = 0.5 * (high - low)
        first = np.where(first <= low + 0.1 * cell, low - room, first)
        last = np.where(last >= high - 0.1 * cell, high + room, last)
    return first, last
