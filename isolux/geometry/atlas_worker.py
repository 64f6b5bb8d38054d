"""xatlas in a process of its own, because it holds the interpreter until it is done.

`python -m isolux.geometry.atlas_worker IN.npz OUT.npz TEXELS PADDING`. It imports neither
torch nor the rest of the package, so that it starts at once.
"""

import sys

import numpy as np
import xatlas


def main(source: str, target: str, texels: int, padding: int) -> None:
    """Read `vertices` [n, 3] and `faces` [f, 3]; write `uvs` [t, 2] and `uv_faces` [f, 3]."""
    with np.load(source, allow_pickle=False) as data:
        vertices, faces = data["vertices"], data["faces"]
    # xatlas has absolute thresholds: of a shape of size 0.01, or far from the origin, it makes
    # a hundred times as many charts.
    vertices = vertices - 0.5 * (vertices.min(0) + vertices.max(0))
    vertices = vertices * (100 / max(float(np.abs(vertices).max()), 1e-30))
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    pack = xatlas.PackOptions()
    pack.padding = padding
    pack.resolution = texels
    pack.bilinear = True
    atlas.generate(xatlas.ChartOptions(), pack)
    if atlas.atlas_count != 1:
        sys.exit(f"xatlas made {atlas.atlas_count} atlases")
    _, uv_faces, uvs = atlas[0]
    np.savez(target, uvs=uvs, uv_faces=uv_faces.astype(np.int32), charts=atlas.chart_count)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
