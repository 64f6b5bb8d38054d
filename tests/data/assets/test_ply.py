"""PLY: a round trip and damage."""

from pathlib import Path

import pytest
import torch

from isolux.data.assets.ply import read_ply, write_ply
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh

ASCII = """ply
format ascii 1.0
element vertex {0}
property float x
property float y
property float z
element face {1}
property list uchar int vertex_indices
end_header
"""
CORNERS = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


def test_round_trip(tmp_path: Path, textured_cube: MeshAsset) -> None:
    write_ply(tmp_path / "a.ply", textured_cube.mesh)
    again = read_ply(tmp_path / "a.ply").mesh
    assert (again.vertices == textured_cube.mesh.vertices).all()
    assert (again.faces == textured_cube.mesh.faces).all()


def test_ascii_quads(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text(ASCII.format(4, 1) + CORNERS + "4 0 1 2 3\n")
    assert read_ply(tmp_path / "a.ply").mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ply of nothing", "cannot be read as PLY"),
        (ASCII.format(4, 1) + CORNERS + "3 0 1 9\n", "vertex index 9 of 4"),
        (ASCII.format(4, 1) + CORNERS + "3 0 1 -9\n", "vertex index -9 of 4"),
        (ASCII.format(4, 1) + CORNERS.replace("1", "nan") + "3 0 1 2\n", "not finite"),
        (ASCII.format(4, 0) + CORNERS, "no faces"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_ply(tmp_path / "a.ply")


def test_bad_vertices_are_not_written(tmp_path: Path) -> None:
    mesh = Mesh(torch.full((3, 3), float("nan")), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    with pytest.raises(ValueError, match="not finite"):
        write_ply(tmp_path / "a.ply", mesh)
