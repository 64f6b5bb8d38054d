"""Cameras as a `transforms.json`, for other programs and for the loader beside this file.

The layout is that of NeRF-synthetic with the keys of instant-ngp, intrinsics on every frame;
axes are Blender's, which is what readers of this file expect. Nothing but cameras is written:
pictures are named where they lie.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isolux.data.blender import BLENDER_FROM_OURS, FLIP_YZ
from isolux.geometry.cameras import Cameras
from isolux.render.files import write_bytes

__all__ = ["write_transforms"]

_AXES = (
    "transform_matrix is world_from_camera: camera x right, y up, looking to -z; world z up, "
    "(x, y, z) here is (x, z, -y) in the mesh's files, whose y is up; pixels: x right, y down, "
    "the first one's centre at (0.5, 0.5)"
)


def write_transforms(
    path: Path, cameras: Cameras, names: Sequence[str], files: Sequence[Path] | None = None
) -> None:
    """Write cameras.

    Args:
        path: of the JSON file; folders on the way are made.
        cameras: any number.
        names: one for each camera.
        files: the pictures that they took; none names frames by `names`.
    """
    pose = cameras.world_from_camera.detach().double().cpu().numpy()
    turned = BLENDER_FROM_OURS @ pose @ FLIP_YZ
    focal, centre = cameras.focal_px.tolist(), cameras.centre_px.tolist()
    frames = [
        {
            "file_path": str(files[i].absolute()) if files is not None else name,
            "name": name,
            "w": cameras.width,
            "h": cameras.height,
            "fl_x": focal[i][0],
            "fl_y": focal[i][1],
            "cx": centre[i][0],
            "cy": centre[i][1],
            "camera_angle_x": 2.0 * float(np.arctan(0.5 * cameras.width / focal[i][0])),
            "transform_matrix": turned[i].tolist(),
        }
        for i, name in enumerate(names)
    ]
    text = json.dumps({"axes": _AXES, "frames": frames}, indent=1) + "\n"
    write_bytes(path, text.encode("utf-8"))
