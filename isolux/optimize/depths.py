"""Whether the near and far planes leave anything of the object. Letters: v views."""

from jaxtyping import Float
from torch import Tensor

from isolux.geometry.cameras import Cameras

__all__ = ["check_depths"]


def check_depths(
    cameras: Cameras, centre: Float[Tensor, " 3"], extent: float, near: float, far: float
) -> None:
    """Look whether a cube is between near and far plane of any camera.

    Args:
        cameras: of the v views.
        centre: of the cube that holds the object, world.
        extent: its edge, scene units.
        near: distance of the plane, scene units.
        far: likewise.

    Raises:
        ValueError: no camera has any of it; what to set.
    """
    pose = cameras.world_from_camera.double().cpu()
    middle = ((centre.double().cpu() - pose[:, :3, 3]) * pose[:, :3, 2]).sum(1)  # [v]
    half = 0.5 * extent * pose[:, :3, 2].abs().sum(1)  # of the cube along the axis
    low, high = middle - half, middle + half
    if not len(low) or bool(((high > near) & (low < far)).any()):
        return
    begins, ends = float(low.amin().clamp_min(0.0)), float(high.amax())
    begins_text, ends_text = f"{begins:.4g}", f"{ends:.4g}"
    name, value = ("near", near) if ends <= near else ("far", far)
    remedy = (
        f"below {begins_text}" if name == "near" and begins > 0.0 else f"beyond {ends_text}"
    )
    if name == "near" and begins <= 0.0:
        remedy = f"well below {ends_text}"
    raise ValueError(
        f"data.{name}={value:g}: nothing of the object is seen: it lies {begins_text} to "
        f"{ends_text} before the cameras; set data.{name} {remedy}"
    )
