"""What a path is."""

from pathlib import Path

import pytest

from isolux.data.assets.gltf import write_glb
from isolux.data.assets.obj import write_obj
from isolux.data.assets.ply import write_ply
from isolux.data.assets.textures import MeshAsset
from isolux.data.detect import read_asset, scene_kind


def test_kinds(tmp_path: Path, make_scene) -> None:
    mesh = tmp_path / "m" / "spot.OBJ"
    mesh.parent.mkdir()
    mesh.write_text("")
    assert scene_kind(mesh) == "mesh"
    assert scene_kind(mesh.parent) == "mesh"
    assert scene_kind(make_scene()) == "nerf_synthetic"


def test_what_is_no_scene(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"looked for .*transforms_train\.json"):
        scene_kind(tmp_path / "gone")
    with pytest.raises(
        ValueError, match=r"looked for .*transforms_train\.json.*\.glb.*holds nothing"
    ):
        scene_kind(tmp_path)
    for name in ("a.glb", "b.obj"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"2 meshes \(a\.glb, b\.obj\)"):
        scene_kind(tmp_path)
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(ValueError, match="is no scene"):
        scene_kind(tmp_path / "c.txt")
    (tmp_path / "transforms_train.json").write_text("{}")
    with pytest.raises(ValueError, match="give the folder"):
        scene_kind(tmp_path / "transforms_train.json")


@pytest.mark.parametrize("suffix", ["obj", "glb", "ply"])
def test_meshes_of_all_formats(tmp_path: Path, textured_cube: MeshAsset, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    match suffix:
        case "obj":
            write_obj(file, textured_cube)
        case "glb":
            write_glb(file, textured_cube)
        case _:
            write_ply(file, textured_cube.mesh)
    asset = read_asset(file)
    assert len(asset.mesh.faces) == 12
    assert (asset.material is not None) == (suffix != "ply")
    with pytest.raises(FileNotFoundError, match="no such mesh"):
        read_asset(tmp_path / f"b.{suffix}")
