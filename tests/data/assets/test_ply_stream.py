"""A PLY mesh that is written part by part."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from isolux.data.assets.ply_stream import VertexKind, write_ply_parts

PLACES = torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FACES = torch.stack([torch.arange(17), torch.arange(1, 18), torch.arange(3, 20)], 1)


@pytest.mark.parametrize("doubles", [False, True])
@pytest.mark.parametrize("colors", [False, True])
def test_parts_are_one_mesh(doubles: bool, colors: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    places = PLACES + 5e6 if doubles else PLACES
    color = torch.tensor([[0.0, 1.0, 9.0]])  # what is beyond one is cut off
    vertices = (
        (places[first : first + 7], color.repeat(min(7, 20 - first), 1) if colors else None)
        for first in range(0, 20, 7)
    )
    kind = VertexKind(doubles, colors=colors)
    write_ply_parts(path, kind, (20, 17), vertices, FACES.split(5))
    mesh = trimesh.load(path, process=False)
    assert np.abs(mesh.vertices - places.numpy()).max() < (1e-9 if doubles else 1e-7)
    assert (mesh.faces == FACES.numpy()).all()
    if colors:
        assert (mesh.visual.vertex_colors[:, :3] == [0, 255, 255]).all()


@pytest.mark.parametrize(
    ("places", "counts", "says"),
    [
        (PLACES[:19], (20, 17), "19 vertices and 17 faces came, not 20 and 17"),
        (PLACES, (20, 18), "20 vertices and 17 faces came, not 20 and 18"),
        (PLACES * float("nan"), (20, 17), "vertices that are not finite, nothing written"),
        (PLACES, (2**31, 17), "more than PLY can number"),
    ],
)
def test_nothing_is_written_that_is_not_whole(
    places: torch.Tensor, counts: tuple[int, int], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.ply"
    path.write_text("before")
    with pytest.raises(ValueError, match=says):
        write_ply_parts(path, VertexKind(), counts, [(places, None)], [FACES])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
