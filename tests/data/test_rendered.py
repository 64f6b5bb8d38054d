"""Views of a known mesh: cameras, repeatability, straight colours."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isolux.backends import select
from isolux.data.assets.gltf import read_gltf, write_glb
from isolux.data.assets.textures import MeshAsset, constant_textures
from isolux.data.procedural import demo_asset
from isolux.data.rendered import RenderedViews, orbit_cameras, random_cameras
from isolux.data.views import axes_meet
from isolux.geometry.mesh import Mesh

GREY = torch.full((16, 32, 3), 0.7)


def views(**changes) -> RenderedViews:
    settings = {"count": 6, "seed": 3} | changes
    return RenderedViews(demo_asset(32, 16, 32), GREY, select("cpu"), (24, 32), **settings)


def test_random_cameras_are_rigid_and_see_the_origin() -> None:
    pose = random_cameras(200, 3.0, 0.25, 0).double()
    turn = pose[:, :3, :3]
    torch.testing.assert_close(
        turn.mT @ turn, torch.eye(3).double().expand(200, 3, 3), atol=1e-6, rtol=0
    )
    assert (torch.linalg.det(turn) > 0.99).all()
    origin = -(turn.mT @ pose[:, :3, 3:])[..., 0]  # in the camera's frame
    assert (origin[:, 2] - 3.0).abs().max() <= 0.25 + 1e-6
    assert origin[:, :2].abs().max() <= 0.25 + 1e-6
    assert origin[:, :2].abs().max() > 0.2
    assert pose[:, :3, 3].mean(0).norm() < 0.5  # from all around


def test_view_i_does_not_depend_on_the_count_but_on_the_seed() -> None:
    few, many = random_cameras(3, 3.0, 0.25, 5), random_cameras(40, 3.0, 0.25, 5)
    assert (few == many[:3]).all()
    assert not (few == random_cameras(3, 3.0, 0.25, 6)).all()


def test_the_orbit_looks_down_from_all_sides() -> None:
    pose = orbit_cameras(4, 2.0)
    place, forward, down = pose[:, :3, 3], pose[:, :3, 2], pose[:, :3, 1]
    torch.testing.assert_close(place[:, 1], torch.full((4,), 2.0 * math.sin(0.4)))
    torch.testing.assert_close(forward, -place / 2.0, atol=1e-6, rtol=0)
    assert (down[:, 1] < -0.9).all()
    torch.testing.assert_close(
        place[0], torch.tensor([0, 2 * math.sin(0.4), 2 * math.cos(0.4)])
    )
    assert orbit_cameras(0, 2.0).shape == (0, 4, 4)


def test_a_view_is_the_same_whenever_and_with_whichever() -> None:
    one = views()
    first, again = one.batch([4, 1]), one.batch([1, 4, 4])
    other = views(count=5).batch([4])
    for name in ("rgb", "alpha"):
        assert (getattr(first, name)[0] == getattr(again, name)[1]).all()
        assert (getattr(first, name)[1] == getattr(again, name)[0]).all()
        assert (getattr(first, name)[0] == getattr(other, name)[0]).all()
    assert first.names == ("view_00004", "view_00001")
    assert first.rgb.shape == (2, 24, 32, 3)
    assert 0.05 < first.alpha.mean() < 0.6
    assert one.batch([]).rgb.shape == (0, 24, 32, 3)


def test_changing_a_batch_does_not_change_what_is_kept() -> None:
    one = views()
    first = one.batch([0])
    kept = first.rgb.clone()
    first.rgb.zero_()
    assert (one.batch([0]).rgb == kept).all()


def test_colours_are_straight() -> None:
    """A rough white thing in a grey furnace is of one grey up to its silhouette."""
    mesh = demo_asset(32, 16, 8).mesh
    asset = MeshAsset(mesh, constant_textures((0.8, 0.8, 0.8), (0.0, 1.0, 0.0)), "white")
    batch = RenderedViews(asset, GREY, select("cpu"), (48, 48), count=2).batch([0, 1])
    covered, edge = (
        batch.alpha[..., 0] > 0,
        (batch.alpha[..., 0] > 0) & (batch.alpha[..., 0] < 0.9),
    )
    assert edge.sum() > 20
    inside, border = batch.rgb[covered & ~edge].mean(), batch.rgb[edge].mean()
    assert abs(border / inside - 1) < 0.1
    assert (batch.rgb[~covered] == 0).all()
    assert batch.rgb[edge].min() > 0.8 * inside


def test_meshes_off_the_origin_are_looked_at_and_need_no_material() -> None:
    mesh = demo_asset(32, 16, 8).mesh
    plain = Mesh(mesh.vertices + torch.tensor([50.0, 0, 0]), mesh.faces)
    orbit = RenderedViews.orbit(
        MeshAsset(plain, None, "far"), GREY, select("cpu"), (16, 16), count=4
    )
    point, away = axes_meet(orbit.cameras)
    torch.testing.assert_close(point[0], torch.tensor(50.0), atol=1e-3, rtol=0)
    assert not away.any()
    assert (orbit.batch([0, 1, 2, 3]).alpha.mean(dim=(1, 2, 3)) > 0.05).all()
    assert orbit.names[0] == "orbit_00000"


def test_a_mesh_without_faces_is_refused() -> None:
    nothing = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match="no faces, nothing to draw"):
        RenderedViews(MeshAsset(nothing, None, "nothing"), GREY, select("cpu"), (8, 8))


@pytest.mark.parametrize(
    ("scale", "settings", "says"),
    [
        (0.0, {}, "has no area"),
        (1e4, {}, "data.camera_distance="),
        (1e-6, {}, "data.camera_distance="),
        (1.0, {"distance": 0.1}, "data.camera_distance="),
        (1.0, {"near": 50.0}, "outside the clip planes"),
        (1.0, {"far": 0.5}, "outside the clip planes"),
    ],
)
def test_cameras_that_would_see_nothing_are_refused(
    scale: float, settings: dict[str, float], says: str
) -> None:
    mesh = demo_asset(32, 16, 8).mesh
    asset = MeshAsset(replace(mesh, vertices=mesh.vertices * scale), None, "odd")

    def alpha(**settings: float) -> torch.Tensor:
        views = RenderedViews(asset, GREY, select("cpu"), (24, 32), count=4, **settings)
        return views.batch(range(4)).alpha

    with pytest.raises(ValueError, match=says) as caught:
        alpha(**settings)
    words = [word.removeprefix("data.") for word in str(caught.value).split() if "=" in word]
    fitting = dict(word.removeprefix("camera_").split("=") for word in words)
    if fitting:  # the remedy works
        covered = alpha(**settings | {key: float(text) for key, text in fitting.items()})
        assert (covered.mean(dim=(1, 2, 3)) > 0.02).all()


def cube(hard: bool) -> MeshAsset:
    """Corners at +-1, with the normals of the faces at each corner, or none."""
    bits = torch.arange(8)[:, None] >> torch.arange(3) & 1
    faces, owner = [], []
    for axis in range(3):
        for side in (0, 1):
            u, v = (
                ((axis + 1) % 3, (axis + 2) % 3) if side else ((axis + 2) % 3, (axis + 1) % 3)
            )
            a = side << axis
            b, c, d = a + (1 << u), a + (1 << u) + (1 << v), a + (1 << v)
            faces += [[a, b, c], [a, c, d]]
            owner += [[2 * axis + side] * 3] * 2
    mesh = Mesh(bits * 2.0 - 1.0, torch.tensor(faces, dtype=torch.int32))
    if hard:
        normals = torch.stack([-torch.eye(3), torch.eye(3)], dim=1).reshape(6, 3)
        rows = torch.tensor(owner, dtype=torch.int32)
        mesh = replace(mesh, normals=normals, normal_faces=rows)
    return MeshAsset(mesh, constant_textures(), "cube")


def test_hard_edges_are_drawn_hard_and_are_no_silhouettes(tmp_path: Path) -> None:
    """Where light depends on direction, a flat face has few colours and a round one many."""
    sky = torch.linspace(0.2, 1.0, 16)[:, None, None].expand(16, 32, 3)

    def seen(asset: MeshAsset) -> tuple[float, torch.Tensor]:
        """How much the three commonest colours cover, and the coverage."""
        batch = RenderedViews(asset, sky, select("cpu"), (64, 64), count=1, distance=6.0).batch(
            [0]
        )
        inside = batch.rgb[batch.alpha[..., 0] == 1]
        _, counts = (inside * 50).round().unique(dim=0, return_counts=True)
        return float(counts.sort().values[-3:].sum() / counts.sum()), batch.alpha

    write_glb(tmp_path / "cube.glb", cube(hard=True))
    (hard, alpha), (soft, same), (again, also) = map(
        seen, (cube(hard=True), cube(hard=False), read_gltf(tmp_path / "cube.glb"))
    )
    assert hard > 0.8
    assert again > 0.8
    assert soft < 0.7
    assert (alpha == same).all()  # edges between faces are not taken for borders
    assert (alpha == also).all()


def test_a_normal_of_zero_is_taken_from_the_faces() -> None:
    hard = cube(hard=True)
    bare = replace(hard, mesh=replace(hard.mesh, normals=torch.zeros(6, 3)))
    pictures = [
        RenderedViews(asset, GREY, select("cpu"), (32, 32), count=1, distance=6.0)
        .batch([0])
        .rgb
        for asset in (bare, cube(hard=False))
    ]
    torch.testing.assert_close(pictures[0], pictures[1])
