"""OBJ: what the format allows, what it forbids, and a round trip."""

import logging
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.data.assets.image import load_data_image
from isolux.data.assets.obj import read_obj, write_obj
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh, vertex_normals

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def read(tmp_path: Path, text: str) -> MeshAsset:
    (tmp_path / "a.obj").write_text(text)
    return read_obj(tmp_path / "a.obj")


def test_polygons_become_fans(tmp_path: Path) -> None:
    asset = read(tmp_path, SQUARE + "v 2 2 0\nf 1 2 3 4\nf 1 2 3\nf 1 2 3 4 5\n")
    assert asset.mesh.faces.tolist() == [
        [0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 3, 4],
    ]  # fmt: skip
    assert asset.material is None
    assert asset.mesh.uvs is None
    assert asset.name == "a"


def test_negative_indices_count_back_from_where_they_stand(tmp_path: Path) -> None:
    text = SQUARE + "f -4 -3 -2\nv 5 5 5\nf -1 -2 -3\n"
    assert read(tmp_path, text).mesh.faces.tolist() == [[0, 1, 2], [4, 3, 2]]


def test_texture_coordinates_are_turned_to_the_top(tmp_path: Path) -> None:
    text = SQUARE + "vt 0 0\nvt 1 0.25\nvt 0.5 1\nf 1/1 2/2 3/3\n"
    mesh = read(tmp_path, text).mesh
    assert mesh.uvs is not None
    assert mesh.uvs.tolist() == [[0, 1], [1, 0.75], [0.5, 0]]


@pytest.mark.parametrize(
    "corner", ["{0}", "{0}/{0}", "{0}//{0}", "{0}/{0}/{0}", "{0}/{0}/", "{0}//"]
)
def test_all_kinds_of_corners(tmp_path: Path, corner: str) -> None:
    text = SQUARE + "vt 0 0\nvt 1 0\nvt 1 1\nvn 0 0 2\nvn 0 0 1\nvn 0 0 1\n"
    mesh = read(tmp_path, text + "f " + " ".join(corner.format(i) for i in (1, 2, 3))).mesh
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert (mesh.uvs is not None) == (corner.count("{") > 1 and "//" not in corner)
    assert (mesh.normals is not None) == corner.endswith("/{0}") * (corner != "{0}/{0}")
    if mesh.normals is not None:
        assert mesh.normals[0].tolist() == [0, 0, 1]  # made unit


def test_mixed_corners_and_odd_writing(tmp_path: Path) -> None:
    text = (
        "# made by hand\r\n\tv 0 0 0 # first\nv  1 0 0 1.0\nv 1 1 0 0.5 0.5 0.5\nv 0 1 0\n"
        "o thing\ng part\ns off\nvt 0.5\nvn 0 0 1\nl 1 2\np 1\n"
        "f 1/1/1 2/1/1 3/1/1\nf\t1 3 \\\n4\n"
    )
    mesh = read(tmp_path, text).mesh
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.uv_faces is not None
    assert mesh.uv_faces.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert mesh.normals is None  # the second face has none


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SQUARE, "has no faces"),
        ("", "has no faces"),
        (SQUARE + "f 1 2\n", "line 5: a face needs three corners"),
        (SQUARE + "f 1 2 3\nf 1 2 5\n", "line 6: v index 5 out of range"),
        (SQUARE + "f 1/1 2/1 3/1\n", "line 5: vt index 1 out of range"),
        (SQUARE + "f 1//2 2//2 3//2\n", "line 5: vn index 2 out of range"),
        (SQUARE + "f 0 1 2\n", "line 5: index 0"),
        (SQUARE + "f -5 1 2\n", "line 5: v index out of range"),
        (SQUARE + "f 1 2 x\n", "line 5: 'x' is no index"),
        (SQUARE + "f 1 2 1.5\n", "line 5: '1.5' is no index"),
        (SQUARE + "f 1/1/1/1 2 3\n", "line 5: more than two slashes"),
        ("v 0 0\nf 1 1 1\n", "line 1: 'v' needs 3 numbers"),
        ("v 0 0 0\nv 0 zero 0\nf 1 1 1\n", "line 2: 'v' needs 3 numbers"),
        ("v 0 0 0\nv 0 nan 0\nf 1 1 1\n", "line 2: 'v' is not finite"),
        ("v 0 0 0\nv 0 1e60 0\nf 1 1 1\n", "line 2: 'v' is not finite"),
        (SQUARE + "v 0 0 " + "7" * 1000000, "no faces"),
        (SQUARE + "f 1 2 3\nv 0 0 " + "7" * 1000000, "line 6: 'v' is not finite"),
        (SQUARE + "f 1 2 3\nf 1 2 " + "7" * 1000000, r"line 6: '7{57}\.\.\.' is no index"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read(tmp_path, text)
    assert "a.obj" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert len(read(tmp_path, "\ufeff" + SQUARE + "f 1 2 3 4\n").mesh.faces) == 2


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such mesh"):
        read_obj(tmp_path / "b.obj")


def test_absent_materials_are_warned_of(tmp_path: Path, caplog) -> None:
    asset = read(tmp_path, "mtllib gone.mtl\n" + SQUARE + "usemtl red\nf 1 2 3\n")
    assert "gone.mtl is absent" in caplog.text
    assert "'red'" in caplog.text
    assert asset.material is not None
    assert asset.mesh.uvs is not None


def test_several_materials_become_one_atlas(tmp_path: Path) -> None:
    (tmp_path / "two words.mtl").write_text(
        "newmtl a\nbsdf pbr\nKd 1 0 0\nKs 0 0.3 1\nnewmtl b\nKd 0 1 0\nPr 0.7\nPm 0.1\n"
    )
    asset = read(
        tmp_path,
        "mtllib two words.mtl\n" + SQUARE + "f 1 2 3\nusemtl b\nf 1 2 3\nusemtl a\nf 1 2 3 4\n",
    )
    assert asset.material is not None
    found = []
    for corners in asset.mesh.uvs[asset.mesh.uv_faces.long()].mean(1):
        height, width, _ = asset.material.albedo.shape
        x, y = int(corners[0] * width), int(corners[1] * height)
        found.append(
            [*asset.material.albedo[y, x].tolist(), *asset.material.orm[y, x].tolist()]
        )
    expected = [
        [0.5, 0.5, 0.5, 0, 0.5, 0],  # before any usemtl
        [0, 1, 0, 0, 0.7, 0.1],
        [1, 0, 0, 0, 0.3, 1],
        [1, 0, 0, 0, 0.3, 1],
    ]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_writing_and_reading_gives_the_asset(tmp_path: Path, textured_cube: MeshAsset) -> None:
    write_obj(tmp_path / "mesh.obj", textured_cube)
    names = ["mesh.mtl", "mesh.obj"] + [
        f"texture_{n}.png" for n in ("kd", "ks", "metalness", "n", "roughness")
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    again, mesh = read_obj(tmp_path / "mesh.obj"), textured_cube.mesh
    assert again.material is not None
    assert textured_cube.material is not None
    assert mesh.uvs is not None
    torch.testing.assert_close(again.mesh.vertices, mesh.vertices, atol=0, rtol=0)
    torch.testing.assert_close(again.mesh.uvs, mesh.uvs, atol=1e-7, rtol=0)
    assert (again.mesh.faces == mesh.faces).all()
    assert (again.mesh.uv_faces == mesh.uv_faces).all()
    expected = vertex_normals(mesh.vertices, mesh.faces)
    torch.testing.assert_close(again.mesh.normals, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.material.orm, textured_cube.material.orm)
    torch.testing.assert_close(
        again.material.albedo, textured_cube.material.albedo, atol=0.005, rtol=0
    )
    torch.testing.assert_close(
        again.material.normal, textured_cube.material.normal, atol=0.008, rtol=0
    )
    rough = load_data_image(tmp_path / "texture_roughness.png")[..., 0]
    torch.testing.assert_close(rough, textured_cube.material.orm[..., 1])


def test_a_mesh_without_faces_is_written(tmp_path: Path) -> None:
    mesh = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    write_obj(tmp_path / "mesh.obj", MeshAsset(mesh, None, "nothing"))
    assert "f " not in (tmp_path / "mesh.obj").read_text()


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    mesh = Mesh(torch.full((3, 3), float("nan")), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    with pytest.raises(ValueError, match="not finite"):
        write_obj(tmp_path / "mesh.obj", MeshAsset(mesh, None, "bad"))
    assert not list(tmp_path.iterdir())


def test_a_large_file_is_read_whole(tmp_path: Path, caplog) -> None:
    """100k faces; the time is only logged, machines differ."""
    count = 50_000
    values = np.random.default_rng(0).random((count, 3)).astype(np.float32)
    faces = np.random.default_rng(1).integers(0, count, (100_000, 3)).astype(np.int32)
    asset = MeshAsset(Mesh(torch.from_numpy(values), torch.from_numpy(faces)), None, "big")
    write_obj(tmp_path / "a.obj", asset)
    start = time.process_time()
    again = read_obj(tmp_path / "a.obj").mesh
    logging.getLogger(__name__).info("read in %.2f s", time.process_time() - start)
    assert (again.vertices.numpy() == values).all()
    assert (again.faces.numpy() == faces).all()
