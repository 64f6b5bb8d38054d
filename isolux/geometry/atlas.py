"""Texture coordinates for a mesh.

Letters: n vertices, f faces, t texture coordinates. (0, 0) is the top left corner of the first
texel. Charts may be mirrored, which tangents must know (`tangents.py` does).
"""

import dataclasses
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.geometry.mesh import Mesh

__all__ = ["MANY_FACES", "triangle_charts", "unwrap"]

MANY_FACES = 60_000
"""Past this the charts take long (55k faces 18 s, 175k faces 84 s): see `simplify.py`."""

_BEAT = 0.2  # seconds between looks at the worker
_log = logging.getLogger(__name__)


def unwrap(
    mesh: Mesh,
    texels: int,
    padding: int = 2,
    timeout: float = 600.0,
    progress: Callable[[float], None] | None = None,
) -> Mesh:
    """The mesh with texture coordinates; positions and faces keep their numbering.

    Charts are made by xatlas in a process of its own. When it fails or is too slow, each
    triangle becomes a chart, with a warning: the mesh is then usable, with more seams.

    Args:
        mesh: what it has of texture coordinates is replaced.
        texels: edge of the square texture that the atlas is meant for.
        padding: texels between charts.
        timeout: seconds that xatlas may take.
        progress: called every now and then with the seconds so far.

    Returns:
        Texture coordinates in [0, 1] with face indices of their own (seams split them, and
        not the positions). A mesh without faces gets none.

    Raises:
        ValueError: for vertices that are not finite, faces out of range, or a texture without
            texels.
    """
    _check(mesh, texels)
    if len(mesh.faces) == 0:
        return dataclasses.replace(
            mesh, uvs=mesh.vertices.new_zeros(0, 2), uv_faces=mesh.faces.new_zeros(0, 3)
        )
    if len(mesh.faces) > MANY_FACES:
        _log.info("charts for %d faces take minutes; a simpler mesh is faster", len(mesh.faces))
    try:
        uvs, uv_faces = _xatlas(mesh, texels, padding, timeout, progress)
    except (RuntimeError, TimeoutError) as error:
        _log.warning("xatlas: %s; each triangle becomes a chart instead", error)
        uvs, uv_faces = triangle_charts(len(mesh.faces), texels)
    device = mesh.vertices.device
    return dataclasses.replace(
        mesh,
        uvs=uvs.to(device, mesh.vertices.dtype),
        uv_faces=uv_faces.to(device, mesh.faces.dtype),
    )


def _check(mesh: Mesh, texels: int) -> None:
    if texels < 1:
        raise ValueError(f"texture size must be at least 1 texel, got {texels}")
    bad = int((~mesh.vertices.isfinite()).any(-1).sum())
    if bad:
        raise ValueError(f"charts: {bad} of {len(mesh.vertices)} vertices are not finite")
    if len(mesh.faces):
        low, high = int(mesh.faces.min()), int(mesh.faces.max())
        if low < 0 or high >= len(mesh.vertices):
            raise ValueError(
                f"charts: faces name vertices {low} to {high}, "
                f"but the mesh has {len(mesh.vertices)}"
            )


def _xatlas(
    mesh: Mesh,
    texels: int,
    padding: int,
    timeout: float,
    progress: Callable[[float], None] | None,
) -> tuple[Tensor, Tensor]:
    """Run the worker and wait for it, with an eye on the clock."""
    with tempfile.TemporaryDirectory(prefix="isolux-atlas-") as name:
        source, target = Path(name) / "in.npz", Path(name) / "out.npz"
        np.savez(
            source,
            vertices=mesh.vertices.detach().cpu().double().numpy(),
            faces=mesh.faces.cpu().numpy(),
        )
        root = str(Path(__file__).parents[2])
        with (Path(name) / "error").open("w+b") as errors:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-c", _START, root),
                    *(str(source), str(target), str(texels), str(padding)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            try:
                _wait(worker, timeout, progress)
            finally:
                if worker.poll() is None:  # too slow, or we were interrupted
                    worker.kill()
                    worker.wait()
            if worker.returncode:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(said[-1] if said else f"exit code {worker.returncode}")
        with np.load(target, allow_pickle=False) as made:
            uvs, uv_faces = made["uvs"], made["uv_faces"]
    if uv_faces.shape != tuple(mesh.faces.shape) or not np.isfinite(uvs).all():
        raise RuntimeError("returned charts that do not fit the mesh")
    return torch.from_numpy(uvs), torch.from_numpy(uv_faces)


# The package may not be installed where the worker looks (a clone), hence the path.
_START = """import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[1:]
runpy.run_module("isolux.geometry.atlas_worker", run_name="__main__")
"""


def _wait(
    worker: subprocess.Popen[bytes], timeout: float, progress: Callable[[float], None] | None
) -> None:
    begin, elapsed = time.monotonic(), 0.0
    while True:
        try:
            worker.wait(max(0.0, min(_BEAT, timeout - elapsed)))
            return
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - begin
            if progress is not None:
                progress(elapsed)
            if elapsed >= timeout:
                raise TimeoutError(f"not done after {timeout:.0f} s") from None


def triangle_charts(faces: int, texels: int) -> tuple[Float[Tensor, "t 2"], Int[Tensor, "f 3"]]:
    """An atlas in which each triangle has half of a square of its own.

    Args:
        faces: how many.
        texels: edge of the texture: a texel is left free around each triangle where squares
            are large enough for that.

    Returns:
        Three texture coordinates a face, in [0, 1].
    """
    count = max(1, int(np.ceil(np.sqrt(np.ceil(faces / 2)))))
    square = texels / count  # texels
    gap = min(1.0, 0.15 * square)
    face = torch.arange(faces)
    cell = face // 2
    corner = torch.stack([cell % count, cell // count], dim=-1) * square  # [f, 2]
    leg = square - 4 * gap
    # A diagonal gap lies between the two.
    lower = torch.tensor([[0.0, 0], [0, 1], [1, 1]]) * leg + torch.tensor([gap, 3 * gap])
    upper = torch.tensor([[0.0, 0], [1, 1], [1, 0]]) * leg + torch.tensor([3 * gap, gap])
    shape = torch.where((face % 2 == 0)[:, None, None], lower, upper)  # [f, 3, 2]
    uvs = (corner[:, None] + shape) / texels
    return uvs.reshape(-1, 2).float(), torch.arange(3 * faces).reshape(-1, 3).int()
