"""The end of a run: its assets, also of an empty surface."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from isolux import backends
from isolux.confs.schema import DataConf, RunConf
from isolux.data.detect import read_asset
from isolux.data.transforms import write_transforms
from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.fixed_mesh import FixedMesh
from isolux.geometry.mesh import Mesh
from isolux.optimize.finish import asset_of, export, write_assets
from isolux.optimize.run import Run
from isolux.optimize.scene import MeshScene
from isolux.render.light import EnvironmentLight
from isolux.render.material import Limits, TextureMaterial

BACKEND = backends.select("cpu")
SIZE = 32


def a_run(folder: Path, faces: int = 4, normal_map: bool = True) -> Run:
    """A tetrahedron whose charts fill the left half of the texture; or nothing."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    corners = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    y = torch.arange(4.0)[:, None] * 0.25
    uvs = torch.stack([torch.tensor([0.0, 0.5, 0.0]).expand(4, 3), y + torch.tensor(
        [0.0, 0.12, 0.25])], dim=-1).reshape(-1, 2)  # fmt: skip
    mesh = Mesh(
        vertices if faces else torch.zeros(0, 3),
        corners[:faces],
        uvs[: 3 * faces],
        torch.arange(3 * faces, dtype=torch.int32).reshape(-1, 3),
    )
    texels = torch.rand(SIZE, SIZE, 9, generator=torch.Generator().manual_seed(0))
    texels[:, SIZE // 2 + 1 :] = 99.0  # no chart comes here: it must not be seen in a file
    light = EnvironmentLight(EnvironmentLight.constant(16, 0.5))
    material = TextureMaterial(texels, Limits(), normal_map, BACKEND)
    scene = MeshScene(BACKEND, FixedMesh(mesh), material, light)
    conf = RunConf(out=folder, data=DataConf(kind="procedural"))
    return Run(folder, conf, BACKEND, scene, {})


def test_texels_outside_the_charts_are_filled(tmp_path: Path) -> None:
    textures = asset_of(BACKEND, a_run(tmp_path).scene, "mesh").material
    assert textures is not None
    assert float(textures.albedo.max()) <= 1.0
    assert float(textures.orm.max()) <= 1.0


def test_files_of_a_mesh(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    write_assets(run, tmp_path / "mesh")
    for kind in ("obj", "glb"):
        asset = read_asset(tmp_path / "mesh" / f"mesh.{kind}")
        corners = asset.mesh.vertices[asset.mesh.faces.long()]
        ours = run.mesh.vertices[run.mesh.faces.long()]
        torch.testing.assert_close(corners, ours, rtol=1e-5, atol=1e-6)
        assert asset.material is not None
        expected = asset_of(BACKEND, run.scene, "mesh").material
        assert expected is not None
        # Eight bits, of sRGB for albedo.
        torch.testing.assert_close(asset.material.albedo, expected.albedo, rtol=0, atol=0.01)
        torch.testing.assert_close(asset.material.orm, expected.orm, rtol=0, atol=0.003)


@pytest.mark.parametrize("normal_map", [True, False])
def test_a_normal_map_only_where_one_was_learned(normal_map: bool, tmp_path: Path) -> None:
    asset = asset_of(BACKEND, a_run(tmp_path, normal_map=normal_map).scene, "mesh")
    assert asset.material is not None
    assert (asset.material.normal is not None) == normal_map
    if asset.material.normal is not None:
        length = asset.material.normal.norm(dim=-1)
        torch.testing.assert_close(length, torch.ones_like(length))


def test_files_of_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path, faces=0)
    write_assets(run, tmp_path / "mesh")
    names = {path.name for path in (tmp_path / "mesh").iterdir()}
    assert names >= {"mesh.obj", "mesh.mtl", "mesh.glb", "probe.hdr", "texture_kd.png"}
    data = (tmp_path / "mesh" / "mesh.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    assert json.loads(data[20 : 20 + length])["asset"]["version"] == "2.0"
    with Image.open(tmp_path / "mesh" / "texture_kd.png") as picture:
        assert picture.size == (SIZE, SIZE)
    for kind in ("glb", "obj", "ply"):
        export(run, tmp_path / f"out.{kind}", kind)


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="glb, obj or ply"):
        export(a_run(tmp_path), tmp_path / "mesh.stl", "stl")


def test_cameras_off_the_centre_and_not_square(tmp_path: Path) -> None:
    pose = look_at(torch.tensor([[0.0, 2.0, 3.0]]), torch.zeros(3), torch.tensor([0.0, 1, 0]))
    focal, centre = torch.tensor([[50.0, 60.0]]), torch.tensor([[20.0, 11.0]])
    write_transforms(tmp_path / "t.json", Cameras(pose, focal, centre, 24, 48), ["a"])
    frame = json.loads((tmp_path / "t.json").read_text())["frames"][0]
    keys = ("w", "h", "fl_x", "fl_y", "cx", "cy")
    assert [frame[key] for key in keys] == [48, 24, 50.0, 60.0, 20.0, 11.0]
    rows = torch.tensor(frame["transform_matrix"])
    # Blender's world: z up, so our height is its z; it looks along its own -z.
    torch.testing.assert_close(rows[:3, 3], torch.tensor([0.0, -3.0, 2.0]))
    towards = torch.nn.functional.normalize(-rows[:3, 3], dim=0)
    torch.testing.assert_close(-rows[:3, 2], towards)
