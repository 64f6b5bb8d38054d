"""An independent renderer reads our GLB and our probe the same way round as we do."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.data.assets.gltf_write import write_glb
from isolux.data.assets.textures import MeshAsset, constant_textures
from isolux.data.rendered import RenderedViews
from isolux.geometry.cameras import Cameras, look_at
from isolux.render.light import EnvironmentLight, cube_from_latlong, latlong_directions
from isolux.render.metrics import psnr

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SIZE = 32


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("mitsuba", reason="needs mitsuba (an extra of the tests)")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import path_tracer

    return path_tracer


def lamp(toward: tuple[float, float, float]) -> Tensor:
    """Grey, with a bright disc of 25 degrees around a direction."""
    cosine = latlong_directions(32, 64) @ torch.tensor(toward)
    return torch.where(cosine[..., None] > 0.9, 8.0, 0.1).expand(32, 64, 3).contiguous()


def both(
    tracer: ModuleType, folder: Path, probe: Tensor, cameras: Cameras, roughness: float
) -> tuple[Tensor, Tensor]:
    """Our picture and Mitsuba's, over black."""
    textures = constant_textures((0.5, 0.5, 0.5), (0.0, roughness, 0.0))
    asset = MeshAsset(tracer.sphere(16), textures, "sphere")
    light = EnvironmentLight(cube_from_latlong(probe, 16), learn=False)
    picture = tracer.draw_sphere(backends.select("auto"), asset, light, cameras)
    write_glb(folder / "sphere.glb", asset)
    traced, _ = tracer.render(tracer.read_glb(folder / "sphere.glb"), probe, cameras, 16)
    return picture.rgb.detach(), traced


# Seen from +z, x runs to the right and y up; from above, z runs down and x to the right.
@pytest.mark.parametrize(
    ("lit", "eye", "axis", "sign"),
    [
        ((1.0, 0.0, 0.0), (0.0, 0.0, 3.0), 1, 1),
        ((-1.0, 0.0, 0.0), (0.0, 0.0, 3.0), 1, -1),
        ((0.0, 1.0, 0.0), (0.0, 0.0, 3.0), 0, -1),
        ((0.0, 0.0, 1.0), (3.0, 0.0, 0.0), 1, -1),
    ],
)
def test_both_are_bright_on_the_side_of_the_lamp(
    tracer: ModuleType,
    tmp_path: Path,
    lit: tuple[float, float, float],
    eye: tuple[float, float, float],
    axis: int,
    sign: int,
) -> None:
    pose = look_at(torch.tensor([eye]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    half = torch.full((1, 2), SIZE / 2)
    cameras = Cameras(pose, torch.full((1, 2), 1.25 * SIZE), half, SIZE, SIZE)
    pictures = both(tracer, tmp_path, lamp(lit), cameras, 0.6)
    for picture in pictures:
        low, high = picture[0].mean(-1).split(SIZE // 2, dim=axis)
        bright, dark = (high, low) if sign > 0 else (low, high)
        assert bright.sum() > 2.0 * dark.sum()
    assert psnr(*pictures) > 25.0


def test_a_grey_world_lights_both_alike(tracer: ModuleType, tmp_path: Path) -> None:
    pictures = both(tracer, tmp_path, torch.full((8, 16, 3), 0.8), tracer.orbit(1, SIZE), 0.8)
    inner = [picture[0, 8:24, 8:24].mean() for picture in pictures]
    torch.testing.assert_close(inner[0], inner[1], atol=0.004, rtol=0.0)


def test_occlusion_darkens_both(tracer: ModuleType, tmp_path: Path) -> None:
    textures = constant_textures((0.5, 0.5, 0.5), (0.5, 0.8, 0.0))
    asset = MeshAsset(tracer.sphere(8), textures, "sphere")
    write_glb(tmp_path / "sphere.glb", asset)
    mesh, probe = tracer.read_glb(tmp_path / "sphere.glb"), torch.ones(8, 16, 3)
    dark, bright = (
        tracer.render(mesh, probe, tracer.orbit(1, 16), 64, occlusion)[0][0, 4:12, 4:12].mean()
        for occlusion in (True, False)
    )
    torch.testing.assert_close(dark, 0.5 * bright, atol=0.01, rtol=0.0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_normal_maps_tilt_the_same_way(
    tracer: ModuleType, tmp_path: Path, mirrored: bool
) -> None:
    """The second tangent turns round where a chart is mirrored, in both renderers."""
    mesh = tracer.sphere(24)
    assert mesh.uvs is not None
    if mirrored:
        u, v = mesh.uvs.unbind(-1)
        mesh = replace(mesh, uvs=torch.stack([u, 1.0 - v], dim=-1))
    # Not much: where a normal turns away from the viewer, ours is bent and Mitsuba's is black.
    tilt = torch.nn.functional.normalize(torch.tensor([[[0.1, 0.25, 1.0]]]), dim=-1)
    textures = replace(constant_textures((0.5, 0.5, 0.5), (0.0, 0.8, 0.0)), normal=tilt)
    asset = MeshAsset(mesh, textures, "sphere")
    probe, cameras = lamp((0.0, -0.6, 0.8)), tracer.orbit(1, SIZE)
    backend = backends.select("auto")
    batch = RenderedViews(asset, probe, backend, (SIZE, SIZE), cameras=cameras).batch([0])
    write_glb(tmp_path / "sphere.glb", asset)
    traced, _ = tracer.render(tracer.read_glb(tmp_path / "sphere.glb"), probe, cameras, 16)
    assert psnr(batch.rgb * batch.alpha, traced) > 25.0


def test_light_from_below_the_surface_counts_without_shadows(
    tracer: ModuleType, tmp_path: Path
) -> None:
    """A normal tilted by 45 degrees sees a lamp that the surface under it hides."""
    tilt = torch.nn.functional.normalize(torch.tensor([[[0.0, 1.0, 1.0]]]), dim=-1)
    textures = replace(constant_textures((0.5, 0.5, 0.5), (0.0, 0.8, 0.0)), normal=tilt)
    asset = MeshAsset(tracer.sphere(24), textures, "sphere")
    probe, cameras = lamp((0.0, 0.6, -0.8)), tracer.orbit(1, SIZE)
    views = RenderedViews(asset, probe, backends.select("auto"), (SIZE, SIZE), cameras=cameras)
    batch = views.batch([0])
    write_glb(tmp_path / "sphere.glb", asset)
    mesh = tracer.read_glb(tmp_path / "sphere.glb")
    pictures = [
        batch.rgb * batch.alpha,
        *(tracer.render(mesh, probe, cameras, 36, shadows=s)[0] for s in (False, True)),
    ]
    ours, without, with_ = (float(p[0, 14:18, 14:18].mean()) for p in pictures)
    assert without == pytest.approx(ours, rel=0.03)
    assert with_ < 0.8 * ours
