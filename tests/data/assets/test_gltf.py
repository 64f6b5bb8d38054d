"""glTF: round trips, transforms, what the Khronos validator says, and damage."""

import base64
import json
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isolux.data.assets.corners import split_corners
from isolux.data.assets.gltf import read_gltf, write_glb
from isolux.data.assets.obj import read_obj, write_obj
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh

VALIDATE = """
const validator = require('gltf-validator');
const bytes = new Uint8Array(require('fs').readFileSync(process.argv[2]));
validator.validateBytes(bytes).then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.fixture(scope="session")
def validator() -> Path:
    """The Khronos validator, installed once into a cache folder."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are needed for the Khronos validator")
    folder = Path(tempfile.gettempdir()) / f"isolux-gltf-validator-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    if not (folder / "node_modules" / "gltf-validator").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "gltf-validator"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"npm could not install gltf-validator: {error}")
    (folder / "validate.js").write_text(VALIDATE)
    return folder


def corner_positions(mesh: Mesh) -> torch.Tensor:
    return mesh.vertices[mesh.faces.long()]


def corner_uvs(mesh: Mesh) -> torch.Tensor:
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    return mesh.uvs[mesh.uv_faces.long()]


def test_writing_and_reading_gives_the_asset(tmp_path: Path, textured_cube: MeshAsset) -> None:
    write_glb(tmp_path / "cube.glb", textured_cube)
    again = read_gltf(tmp_path / "cube.glb")
    assert again.name == "cube"
    assert len(again.mesh.vertices) == 8  # seams are closed again
    torch.testing.assert_close(
        corner_positions(again.mesh), corner_positions(textured_cube.mesh)
    )
    torch.testing.assert_close(corner_uvs(again.mesh), corner_uvs(textured_cube.mesh))
    assert again.material is not None
    assert textured_cube.material is not None
    torch.testing.assert_close(
        again.material.orm, textured_cube.material.orm, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        again.material.albedo, textured_cube.material.albedo, atol=0.005, rtol=0
    )
    torch.testing.assert_close(
        again.material.normal, textured_cube.material.normal, atol=0.008, rtol=0
    )


def test_occlusion_is_turned_round_in_files(tmp_path: Path, textured_cube: MeshAsset) -> None:
    """glTF's red channel is how much light arrives."""
    write_glb(tmp_path / "cube.glb", textured_cube)
    data = (tmp_path / "cube.glb").read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    tree, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    view = tree["bufferViews"][tree["images"][1]["bufferView"]]
    (tmp_path / "orm.png").write_bytes(binary[view["byteOffset"] :][: view["byteLength"]])
    from isolux.data.assets.image import load_data_image

    stored = load_data_image(tmp_path / "orm.png")
    assert textured_cube.material is not None
    torch.testing.assert_close(1.0 - stored[..., 0], textured_cube.material.orm[..., 0])


def variants(cube: MeshAsset) -> dict[str, MeshAsset]:
    mesh = cube.mesh
    plain = Mesh(mesh.vertices, mesh.faces)
    assert mesh.uvs is not None
    folded = Mesh(mesh.vertices, mesh.faces, mesh.uvs * 0, mesh.uv_faces)
    mirrored = Mesh(
        mesh.vertices, mesh.faces, mesh.uvs * torch.tensor([-1.0, 1]), mesh.uv_faces
    )
    thin = Mesh(
        mesh.vertices, torch.cat([mesh.faces, torch.tensor([[1, 1, 2]], dtype=torch.int32)])
    )
    nothing = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    material = cube.material
    assert material is not None
    unperturbed = type(material)(material.albedo, material.orm)
    return {
        "full": cube,
        "plain": MeshAsset(plain, None, "plain"),
        "material without coordinates": MeshAsset(plain, material, "plain"),
        "without normal map": MeshAsset(mesh, unperturbed, "cube"),
        "coordinates all one": MeshAsset(folded, material, "folded"),
        "mirrored": MeshAsset(mirrored, material, "mirrored"),
        "degenerate face": MeshAsset(thin, None, "thin"),
        "nothing": MeshAsset(nothing, None, "nothing"),
    }


def test_the_validator_finds_nothing(
    tmp_path: Path, textured_cube: MeshAsset, validator: Path
) -> None:
    for name, asset in variants(textured_cube).items():
        file = tmp_path / f"{name}.glb"
        write_glb(file, asset)
        command = ["node", "validate.js", str(file)]
        run = subprocess.run(command, cwd=validator, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        issues = json.loads(run.stdout)
        assert issues["numErrors"] == issues["numWarnings"] == 0, (name, issues["messages"])


def test_tangents_follow_u_and_say_the_side(textured_cube: MeshAsset) -> None:
    for asset, side in ((textured_cube, 1.0), (variants(textured_cube)["mirrored"], -1.0)):
        split = split_corners(asset.mesh)
        assert split.tangents is not None
        assert split.uvs is not None
        assert (split.tangents[:, 3] == side).all()
        dots = (split.tangents[:, :3] * split.normals).sum(1)
        np.testing.assert_allclose(dots, 0, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(split.tangents[:, :3], axis=1), 1, atol=1e-6)
        # Bitangents run against v: glTF's cross(normal, tangent) * w is up in the picture.
        bitangent = np.cross(split.normals, split.tangents[:, :3]) * split.tangents[:, 3:]
        a, b, c = (split.positions[split.faces[:, i]] for i in range(3))
        p, q, r = (split.uvs[split.faces[:, i]] for i in range(3))
        for edge, step in ((b - a, q - p), (c - a, r - p)):
            along = (edge * bitangent[split.faces[:, 0]]).sum(1)
            straight = np.abs(step[:, 0]) < 1e-6
            assert (along[straight] * step[straight, 1] < 0).all()


def scene(nodes: list[dict[str, Any]], **primitive: Any) -> dict[str, Any]:
    """A triangle, its buffer embedded."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    data = base64.b64encode(positions.tobytes()).decode()
    return {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, **primitive}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 48}],
        "buffers": [{"byteLength": 48, "uri": f"data:application/octet-stream;base64,{data}"}],
    }


def read(tmp_path: Path, tree: object) -> Mesh:
    (tmp_path / "a.gltf").write_text(json.dumps(tree))
    return read_gltf(tmp_path / "a.gltf").mesh


def test_node_transforms(tmp_path: Path) -> None:
    half = 0.5**0.5
    nodes = [
        {"children": [1], "translation": [1, 2, 3]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
    ]
    mesh = read(tmp_path, scene(nodes))
    expected = torch.tensor([[[1.0, 2, 3], [1, 4, 3], [0, 2, 3]]])
    torch.testing.assert_close(corner_positions(mesh), expected)
    matrix = [0, 2, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 1]  # the same, column by column
    mesh = read(tmp_path, scene([{"mesh": 0, "matrix": matrix}]))
    torch.testing.assert_close(corner_positions(mesh), expected)


def test_a_mirroring_node_keeps_the_outside_out(tmp_path: Path) -> None:
    corners = corner_positions(read(tmp_path, scene([{"mesh": 0, "scale": [-1, 1, 1]}])))[0]
    normal = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
    assert normal[2] > 0


def test_strips_and_fans(tmp_path: Path) -> None:
    for mode in (5, 6):
        tree = scene([{"mesh": 0}], mode=mode)
        tree["accessors"][0]["count"] = 4
        corners = corner_positions(read(tmp_path, tree))
        assert len(corners) == 2
        normal = torch.linalg.cross(
            corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        )
        assert (normal[0] == torch.tensor([0.0, 0, 1])).all()


def test_factors_make_a_material(tmp_path: Path) -> None:
    tree = scene([{"mesh": 0}], material=0)
    tree["materials"] = [
        {
            "pbrMetallicRoughness": {
                "baseColorFactor": [0.2, 0.4, 0.6, 1],
                "metallicFactor": 0.25,
                "roughnessFactor": 0.75,
            }
        }
    ]
    (tmp_path / "a.gltf").write_text(json.dumps(tree))
    material = read_gltf(tmp_path / "a.gltf").material
    assert material is not None
    torch.testing.assert_close(material.albedo[0, 0], torch.tensor([0.2, 0.4, 0.6]))
    torch.testing.assert_close(material.orm[0, 0], torch.tensor([0.0, 0.75, 0.25]))


ACCESSOR = {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}


def changed(**changes: Any) -> dict[str, Any]:
    return scene([{"mesh": 0}]) | changes


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (changed(asset={"version": "1.0"}), "not glTF 2"),
        (changed(extensionsRequired=["KHR_draco_mesh_compression"]), "KHR_draco"),
        (changed(accessors=[]), "malformed glTF"),
        (changed(meshes=[{}]), "malformed glTF"),
        (changed(nodes=[{"mesh": 0, "children": [0]}]), "node 0 has more than one parent"),
        (changed(nodes=[{"mesh": 0, "matrix": [1.0]}]), "matrix has 1 numbers"),
        (changed(nodes=[{"mesh": 0, "scale": [1e300] * 3}]), "not finite"),
        (changed(nodes=[{"mesh": -1}]), "asks for meshes -1 of 1"),
        (changed(accessors=[ACCESSOR | {"count": 10**15}]), "beyond its buffer view"),
        (changed(accessors=[ACCESSOR | {"count": -1}]), "count is -1"),
        (changed(accessors=[ACCESSOR | {"byteOffset": -64}]), "byteOffset is -64"),
        (changed(accessors=[ACCESSOR | {"type": "VEC2"}]), "of 2 numbers, any of 3 are needed"),
        (
            changed(accessors=[{"componentType": 5126, "count": 10**15, "type": "VEC3"}]),
            "has no data",
        ),
        (changed(nodes=[{}]), "no triangles"),
        (changed(bufferViews=[{"buffer": 0, "byteLength": 8}]), "beyond its buffer view"),
        (changed(bufferViews=[{"buffer": 0, "byteLength": 4800}]), "truncated"),
        (changed(buffers=[{"byteLength": 48, "uri": "gone.bin"}]), r"gone\.bin"),
        ([1, 2], "not an object"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, tree: object, says: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        read(tmp_path, tree)
    assert "a.gltf" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", ["red", [float("nan")] * 4, [None] * 4])
def test_factors_that_are_no_numbers(tmp_path: Path, factor: object) -> None:
    tree = changed(materials=[{"pbrMetallicRoughness": {"baseColorFactor": factor}}])
    tree["meshes"][0]["primitives"][0]["material"] = 0
    with pytest.raises(ValueError, match=r"a\.gltf: malformed glTF, a material's factor is"):
        read(tmp_path, tree)


def test_damaged_glb(tmp_path: Path, textured_cube: MeshAsset) -> None:
    write_glb(tmp_path / "a.glb", textured_cube)
    data = (tmp_path / "a.glb").read_bytes()
    for bad, says in (
        (data[:-100], "truncated"),
        (data[:10], "truncated"),
        (b"text", "not a GLB"),
    ):
        (tmp_path / "b.glb").write_bytes(bad)
        with pytest.raises(ValueError, match=says):
            read_gltf(tmp_path / "b.glb")


def test_positions_that_are_not_finite(tmp_path: Path) -> None:
    tree = scene([{"mesh": 0}])
    bad = base64.b64encode(np.full(12, np.nan, np.float32).tobytes()).decode()
    tree["buffers"][0]["uri"] = f"data:;base64,{bad}"
    with pytest.raises(ValueError, match="not finite"):
        read(tmp_path, tree)
    mesh = Mesh(torch.full((3, 3), float("inf")), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    with pytest.raises(ValueError, match="not finite"):
        write_glb(tmp_path / "b.glb", MeshAsset(mesh, None, "bad"))


def test_through_obj_and_back(tmp_path: Path, textured_cube: MeshAsset) -> None:
    """Both formats say the same: texture rows, channels, the green of normals."""
    write_obj(tmp_path / "mesh.obj", textured_cube)
    write_glb(tmp_path / "mesh.glb", textured_cube)
    a, b = read_obj(tmp_path / "mesh.obj"), read_gltf(tmp_path / "mesh.glb")
    assert a.material is not None
    assert b.material is not None
    for name in ("albedo", "orm", "normal"):
        torch.testing.assert_close(getattr(a.material, name), getattr(b.material, name))
    torch.testing.assert_close(corner_uvs(a.mesh), corner_uvs(b.mesh))


def test_another_reader_sees_the_same(tmp_path: Path, textured_cube: MeshAsset) -> None:
    import trimesh

    write_glb(tmp_path / "cube.glb", textured_cube)
    read = trimesh.load(tmp_path / "cube.glb", force="mesh", process=False)
    corners = torch.from_numpy(np.array(read.triangles)).float()
    torch.testing.assert_close(corners, corner_positions(textured_cube.mesh))
    uv = np.asarray(read.visual.uv)[read.faces]  # its origin is at the bottom
    uv[..., 1] = 1.0 - uv[..., 1]
    torch.testing.assert_close(
        torch.from_numpy(uv).float(), corner_uvs(textured_cube.mesh), atol=1e-6, rtol=0
    )
    assert textured_cube.material is not None
    rough = np.asarray(read.visual.material.metallicRoughnessTexture)[..., 1] / 255.0
    torch.testing.assert_close(
        torch.from_numpy(rough).float(), textured_cube.material.orm[..., 1]
    )
