"""Surfaces from points, as they are measured: exact shapes, clouds, metrics, the script."""

import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from isolux.geometry.fields import SphereField
from isolux.geometry.mesh import Mesh
from isolux.geometry.statistics import statistics_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHARED = Path(__file__).parents[3] / "shared" / "data"
NAMES = ("ripples", "knot", "gear", "bowl", "rings")
GENUS = {"ripples": 1, "knot": 1, "gear": 1, "bowl": 0, "rings": 3}

# As much of open3d as the peer's worker calls: a sphere through the points' mean distance.
STAND_IN = """
import math
import numpy as np
class geometry:
    class PointCloud: pass
    class TriangleMesh:
        @staticmethod
        def create_from_point_cloud_poisson(cloud, depth, n_threads):
            assert cloud.points.shape == cloud.normals.shape
            radius = np.linalg.norm(cloud.points, axis=1).mean()
            mesh = geometry.TriangleMesh()
            corners = [(1,0,0), (-1,0,0), (0,1,0), (0,-1,0), (0,0,1), (0,0,-1)]
            mesh.vertices = radius * np.array(corners, float)
            mesh.triangles = np.array([(0,2,4), (2,1,4), (1,3,4), (3,0,4),
                                       (2,0,5), (1,2,5), (3,1,5), (0,3,5)])
            return mesh, None
class utility:
    Vector3dVector = staticmethod(np.asarray)
"""


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def shape() -> Callable[[str], Any]:
    import points_shapes

    kept: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in kept:
            kept[name] = points_shapes.load(name, None)
        return kept[name]

    return load


def ball(radius: float) -> Mesh:
    made = trimesh.creation.icosphere(5, radius)
    return Mesh(
        torch.from_numpy(np.array(made.vertices)), torch.from_numpy(np.array(made.faces))
    )


def sphere_shape(radius: float) -> Any:
    from points_shapes import Shape

    middle = torch.zeros(3, dtype=torch.float64)
    return Shape("ball", ball(radius), SphereField(middle, radius))


# --- shapes


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_closed_and_of_length_one(name: str, shape: Callable[[str], Any]) -> None:
    mesh = shape(name).mesh
    numbers = statistics_of(mesh)
    assert numbers.watertight
    assert numbers.manifold
    assert numbers.components == 1
    assert numbers.euler == 2 - 2 * GENUS[name]
    side = mesh.vertices.max(0).values - mesh.vertices.min(0).values
    assert float(side.max()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_normals_point_outward(name: str, shape: Callable[[str], Any]) -> None:
    made = shape(name)
    points, normals = made.sample(2000, 3)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(2000, dtype=torch.float64))
    step = 1e-3 * normals
    out, inside = made.tree.winding(points + step), made.tree.winding(points - step)
    # Winding numbers are good to a percent or two; at sharp edges steps may cross.
    assert float((out.abs() < 0.2).double().mean()) > 0.99
    assert float(((inside - 1).abs() < 0.2).double().mean()) > 0.99


@pytest.mark.parametrize("name", ["ripples", "knot", "bowl", "rings"])
def test_formulas_give_exact_distances(name: str, shape: Callable[[str], Any]) -> None:
    made = shape(name)
    points, normals = made.sample(1000, 4)
    assert float(made.field.value(points).abs().max()) < 1e-12
    for step in (1e-3, -1e-3):
        distance, there = made.nearest(points + step * normals)
        torch.testing.assert_close(distance, torch.full_like(distance, 1e-3), atol=1e-9, rtol=0)
        torch.testing.assert_close(there, normals, atol=1e-5, rtol=0)


def test_a_shape_far_from_its_points_still_has_distances(shape: Callable[[str], Any]) -> None:
    made = shape("knot")
    points = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    exact = made.tree.closest(points)[0]
    torch.testing.assert_close(made.nearest(points)[0], exact, atol=made.coarseness, rtol=0)


def test_an_unknown_shape_lists_the_known() -> None:
    from points_shapes import load

    with pytest.raises(ValueError, match="no shape 'cube'; there are ripples, knot"):
        load("cube", None)
    with pytest.raises(ValueError, match="'bunny' needs --data"):
        load("bunny", None)


@pytest.mark.skipif(not (SHARED / "meshes").is_dir(), reason="needs the shared meshes")
def test_meshes_of_files_have_length_one() -> None:
    from points_shapes import load

    mesh = load("fandisk", SHARED / "meshes").mesh
    side = mesh.vertices.max(0).values - mesh.vertices.min(0).values
    assert float(side.max()) == pytest.approx(1.0, abs=1e-12)


# --- clouds


def test_clouds_repeat_and_noise_is_as_told(shape: Callable[[str], Any]) -> None:
    from points_clouds import Sampling, cloud_of

    gear = shape("gear")
    clean, noisy = (cloud_of(gear, Sampling(4000, noise)) for noise in (0.0, 0.5))
    again = cloud_of(gear, Sampling(4000, 0.5))
    assert torch.equal(noisy.xyz, again.xyz)
    moved = noisy.xyz - clean.xyz
    assert float(moved.std()) == pytest.approx(0.005, rel=0.05)
    assert torch.equal(noisy.normals, clean.normals)
    assert float(gear.nearest(clean.xyz)[0].max()) < 1e-12


def test_graded_clouds_are_denser_at_one_end() -> None:
    from points_clouds import Sampling, cloud_of

    cloud = cloud_of(sphere_shape(0.5), Sampling(20_000, spread="graded"))
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 1.5]).double(), dim=0)
    # On a sphere equal heights have equal areas: counts are densities.
    count = torch.histc((cloud.xyz @ axis).float(), 20, -0.5, 0.5)
    assert len(cloud) == 20_000
    assert float(count[-1] / count[0]) == pytest.approx(20 ** (19 / 20), rel=0.25)
    assert bool((count[5:] > count[:-5]).all())


def test_estimated_normals_turn_to_where_points_were_seen_from() -> None:
    from points_clouds import Sampling, cloud_of

    made = sphere_shape(0.5)
    true = cloud_of(made, Sampling(2000))
    found = cloud_of(made, Sampling(2000, normals="pca"))
    assert float((true.normals * found.normals).sum(-1).min()) > 0.98


# --- metrics


@pytest.mark.parametrize("offset", [0.01, -0.01, 0.0003])
def test_a_sphere_of_another_radius_is_off_by_the_difference(offset: float) -> None:
    from points_metrics import surface_errors, truth_of

    row = surface_errors(ball(0.5 + offset), truth_of(sphere_shape(0.5), 20_000))
    sagitta = 1.3e-4  # of the mesh's triangles
    for name in ("acc", "compl", "cd", "hausdorff"):
        assert row[name] == pytest.approx(abs(offset), abs=1.5 * sagitta), name
    assert row["nc"] > 0.999
    for threshold in (0.005, 0.001, 0.0005):
        assert row[f"f_{threshold:g}"] == pytest.approx(
            float(abs(offset) < threshold), abs=0.05
        )
    # Between samples there is a floor that has nothing to do with the surfaces.
    assert row["chamfer"] > 0.5 * math.sqrt(math.pi * 0.25 / 20_000)


def test_a_missing_half_costs_completeness_alone() -> None:
    from points_metrics import surface_errors, truth_of

    whole = ball(0.5)
    upper = whole.vertices[whole.faces][..., 2].min(1).values > 0
    row = surface_errors(
        Mesh(whole.vertices, whole.faces[upper]), truth_of(sphere_shape(0.5), 5000)
    )
    assert row["acc"] < 2e-4
    assert row["compl"] > 0.1
    assert row["hausdorff"] > 0.6


def test_no_mesh_has_infinite_errors() -> None:
    from points_metrics import connectedness, surface_errors, truth_of

    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    row = surface_errors(empty, truth_of(sphere_shape(0.5), 100))
    assert row["cd"] == math.inf
    assert row["f_0.001"] == row["nc"] == 0.0
    assert connectedness(empty) == {"faces": 0, "components": 0, "boundary_edges": 0}


def test_open_edges_and_parts_are_counted() -> None:
    from points_metrics import connectedness

    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 5, 6]])
    numbers = connectedness(Mesh(torch.rand(7, 3), faces))
    assert numbers == {"faces": 3, "components": 2, "boundary_edges": 7}


def test_held_out_points_tell_a_sheet_that_no_point_asked_for() -> None:
    from points_held_out import held_out, split

    from isolux.geometry.points.cloud import PointCloud

    points, _ = sphere_shape(0.5).sample(3000, 0)
    cloud, held = split(PointCloud(points))
    assert len(cloud) + len(held) == 3000
    assert 200 < len(held) < 400
    good = held_out(ball(0.5), cloud, held)
    assert good["held_95"] < 2e-4
    assert good["excess_95"] < 0.05
    assert good["covered"] == 1.0
    far = ball(0.5)
    both = Mesh(
        torch.cat([far.vertices, far.vertices + 3.0]),
        torch.cat([far.faces, far.faces + len(far.vertices)]),
    )
    sheet = held_out(both, cloud, held)
    assert sheet["held_95"] == pytest.approx(good["held_95"])
    assert sheet["excess_95"] > 3.0
    assert held_out(ball(0.3), cloud, held)["covered"] == 0.0


def test_ranges_are_those_of_the_first_sheet_that_a_ray_meets() -> None:
    pytest.importorskip("embreex", reason="embreex, an optional ray caster, is not installed")
    from points_held_out import range_errors

    far = torch.tensor([5e5, 4e6, 0.0]).double()  # coordinates of a survey
    points, normals = sphere_shape(0.5).sample(500, 0)
    sensor = points + 0.7 * normals
    whole, sheet = ball(0.5), ball(0.6)
    behind = range_errors(Mesh(whole.vertices + far, whole.faces), points + far, sensor + far)
    assert float(np.abs(behind).max()) < 3e-4
    before = range_errors(Mesh(sheet.vertices + far, sheet.faces), points + far, sensor + far)
    np.testing.assert_allclose(before, -0.1, atol=3e-4)
    nothing = range_errors(Mesh(whole.vertices + 9.0, whole.faces), points, sensor)
    assert bool(np.isinf(nothing).all())


# --- tables


def row(cd: float, seconds: float) -> dict[str, float]:
    return {"cd": cd, "nc": 0.9, "fit_user_s": seconds, "peak_rss_bytes": 1e8}


def test_ratios_are_ours_over_the_peers_at_the_same_depth() -> None:
    from points_table import markdown, pairs, summary, text

    found = {
        "knot/even/0.5%/3k/true/open3d d7": row(0.002, 1.0),
        "knot/even/0.5%/3k/true/open3d d8": row(0.001, 2.0),
        "knot/even/0.5%/3k/true/hierarchy d7": row(0.001, 3.0),
        "knot/even/0.5%/3k/true/hierarchy auto": row(0.0009, 1.0),
        "knot/even/0.5%/3k/true/hierarchy d8": {"failed": "no such luck"},
        "gear/even/0.5%/3k/true/hierarchy d7": row(0.001, 3.0),
    }
    ratios = dict(pairs(found))
    assert len(ratios) == 2
    assert ratios["knot/even/0.5%/3k/true/hierarchy d7"]["cd"] == pytest.approx(0.5)
    assert ratios["knot/even/0.5%/3k/true/hierarchy d7"]["user_s"] == pytest.approx(3.0)
    # A size of its own is held against the peer's best depth.
    assert ratios["knot/even/0.5%/3k/true/hierarchy auto"]["cd"] == pytest.approx(0.9)
    lines = summary(found)
    assert any(
        line.startswith("hierarchy auto, cd: within figures in 0 of 1") for line in lines
    )
    assert any(line.startswith("hierarchy d7, cd: within figures in 1 of 1") for line in lines)
    assert "failed: no such luck" in text(found)
    assert len(markdown(found).split("\n\n")[0].splitlines()) == 2 + len(found)


def test_the_digest_counts_what_is_not_above_the_peer() -> None:
    from points_digest import compared, digest

    def cells(ours: float, peer: float, cloud: str) -> dict[str, dict[str, float]]:
        numbers = {
            f"{cloud}/open3d d8": row(peer, 2.0),
            f"{cloud}/open3d d9": row(2 * peer, 4.0),
            f"{cloud}/hierarchy auto": row(ours, 1.0),
        }
        return {key: value | {"hausdorff": 10 * value["cd"]} for key, value in numbers.items()}

    found = {
        **cells(0.5, 1.0, "knot/even/0%/10k/true"),
        **cells(1.5, 1.0, "knot/even/0.5%/10k/true"),
        **cells(0.8, 1.0, "bunny/graded/0.5%/10k/true"),
        **cells(0.7, 1.0, "bunny/even/0.5%/10k/pca"),
    }
    ratios = {cell.name: cell.ratios["cd"] for cell in compared(found, "hierarchy auto")}
    assert ratios["bunny 10k, 0.5 %, graded"] == pytest.approx(0.8)
    assert ratios["bunny 10k, 0.5 %, normals estimated"] == pytest.approx(0.7)
    said = digest(found)
    assert "| all | 1 of 1 | 2 of 3 | 1 of 3 | 4 of 4 | 3 of 4 | 0.75 | 1.50 |" in said
    assert "| by formula, 10k | 1 of 1 | 0 of 1 | 0 of 1 |" in said
    assert "Worst: knot 10k, 0.5 % (1.50); bunny 10k, 0.5 %, graded (0.80)" in said
    assert "| 10k | knot | 0.50 |  | 1.50 |  |  |  |" in said
    assert "| 10k | hierarchy auto | 1.0 | 1.0 | 100 | 100 |" in said
    assert "splines" not in said


def test_the_digest_of_scans_has_what_held_out_points_said() -> None:
    from points_digest import scans

    numbers = row(0.0, 2.0) | {"held_median": 0.25, "held_95": 1.5, "excess_95": 3.0}
    numbers |= {"covered": 0.9, "range_median": 0.125}
    found = {
        "room/open3d d8": numbers,
        "room/hierarchy d8": numbers,
        "room/hierarchy auto": numbers,
        "bunny scans/hierarchy auto": row(0.1, 2.0),  # has a truth
    }
    lines = scans(found).splitlines()
    assert len(lines) == 4
    assert lines[3] == "| room | hierarchy auto | 0.12 |  | 0.25 | 1.5 | 3 | 90 % | 2.0 | 100 |"


# --- the script


@pytest.fixture
def peer(tmp_path: Path) -> str:
    folder = tmp_path / "stand_in"
    folder.mkdir()
    (folder / "open3d.py").write_text(STAND_IN, "utf-8")
    return shlex.join(["env", f"PYTHONPATH={folder}", sys.executable])


def arguments(out: Path, peer: str, *more: str) -> list[str]:
    return [
        *("--out", str(out), "--open3d", peer, "--sizes", "300", "--depths", "4", *more),
        *("--samples", "500", "--only", "gear/even/0%/*/open3d*", "gear/graded/0%/*/open3d*"),
    ]


def test_a_tiny_cell_by_command(tmp_path: Path, peer: str) -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "points.py"),
        *arguments(tmp_path / "out", peer),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    found = json.loads((tmp_path / "out" / "points.json").read_text("utf-8"))
    assert list(found) == [
        "gear/even/0%/300/true/open3d d4",
        "gear/graded/0%/300/true/open3d d4",
    ]
    for numbers in found.values():
        assert numbers["faces"] == 8
        assert numbers["boundary_edges"] == 0
        assert 0 < numbers["cd"] < 0.5
        assert numbers["fit_user_s"] >= 0.0
        assert numbers["peak_rss_bytes"] >= numbers["rss_before_bytes"] > 1e6
    assert "gear/even/0%/300/true" in said.stdout
    assert (tmp_path / "out" / "points.md").read_text("utf-8").startswith("| cloud | system |")


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, given: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["points.py", *given])
    code: int = module.main()
    return code


def test_resume_keeps_what_is_there_and_tries_failures_again(
    tmp_path: Path,
    peer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import points

    out = tmp_path / "out"
    assert called(points, monkeypatch, arguments(out, "no-such-python")) == 1
    stored = json.loads((out / "points.json").read_text("utf-8"))
    assert all("no-such-python" in row["failed"] for row in stored.values())
    with pytest.raises(SystemExit):
        called(points, monkeypatch, arguments(out, peer))
    assert "add --resume" in capsys.readouterr().err
    kept = "gear/even/0%/300/true/open3d d4"
    stored[kept] = {"cd": 0.125, "nc": 0.5}
    (out / "points.json").write_text(json.dumps(stored), "utf-8")
    assert called(points, monkeypatch, arguments(out, peer, "--resume")) == 0
    again = json.loads((out / "points.json").read_text("utf-8"))
    assert again[kept] == {"cd": 0.125, "nc": 0.5}
    assert again["gear/graded/0%/300/true/open3d d4"]["faces"] == 8


def test_rows_of_the_peer_are_taken_over(
    tmp_path: Path, peer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import points

    rows = {
        "gear/even/0%/300/true/open3d d4": {"cd": 0.125, "nc": 0.5},
        "gear/graded/0%/300/true/open3d d4": {"failed": "no such luck"},
        "gear/even/0%/300/true/hierarchy auto": {"cd": 0.25, "nc": 0.5},
    }
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(rows), "utf-8")
    given = arguments(tmp_path / "out", peer, "--peer", str(earlier))
    assert called(points, monkeypatch, given) == 0
    found = json.loads((tmp_path / "out" / "points.json").read_text("utf-8"))
    assert len(found) == 2  # what failed is measured, and ours never comes from elsewhere
    assert found["gear/even/0%/300/true/open3d d4"] == {"cd": 0.125, "nc": 0.5}
    assert found["gear/graded/0%/300/true/open3d d4"]["faces"] == 8


def test_our_worker_reconstructs_a_tiny_cloud() -> None:
    from points_clouds import Sampling, cloud_of
    from points_metrics import surface_errors, truth_of
    from points_systems import reconstruct, systems_for

    made = sphere_shape(0.5)
    ours = next(s for s in systems_for(1000, 1.0, [5]) if s.name == "hierarchy d5")
    mesh, numbers = reconstruct(ours, cloud_of(made, Sampling(1000)), [])
    assert surface_errors(mesh, truth_of(made, 2000))["cd"] < 0.003
    assert {"fit_user_s", "mesh_user_s", "peak_rss_bytes"} <= numbers.keys()


def test_the_peer_takes_its_own_normals_where_ours_are_estimates() -> None:
    from points_systems import systems_for

    names = [system.name for system in systems_for(10**6, 1.0, [8], estimated=True)]
    assert names == ["open3d d8", "open3d own d8", "hierarchy d8", "hierarchy auto"]
    assert "open3d own d8" not in [system.name for system in systems_for(10**6, 1.0, [8])]


def test_plan_has_each_cell_once() -> None:
    from points import NOISES, SIZES, cells

    keys = [c.key for c in cells(NAMES, SIZES, NOISES, None, ("true", "pca"))]
    assert len(keys) == len(set(keys))
    assert "ripples/graded/0.5%/1M/pca/hierarchy auto" in keys
    assert "knot/even/0.25%/10k/true/splines" in keys
    assert not any("100k" in key and "splines" in key for key in keys)


def test_pictures_show_the_mesh_and_its_error() -> None:
    from points_pictures import Eye, error_picture, shaded, splatted

    eye, mesh = Eye(), ball(0.4)
    grey = shaded(mesh, eye)
    assert grey.shape == (360, 360, 3)
    assert int(grey[0, 0, 0]) == 255
    assert 20 < int(grey[180, 180, 0]) < 255
    heat = error_picture(mesh, eye, lambda p: (p.norm(dim=-1) - 0.4).abs())
    assert int(heat[180, 180].max()) < 20
    points, normals = sphere_shape(0.4).sample(3000, 0)
    dots = splatted(points, normals, eye)
    assert dots.shape == (360, 360, 3)
    covered = grey[..., 0] < 255
    assert 0.1 < float((dots[..., 0][covered] < 255).float().mean()) < 0.9
    assert float((dots[..., 0][~covered] < 255).float().mean()) < 0.01
    assert Tensor.equal(
        shaded(Mesh(mesh.vertices, mesh.faces[:0]), eye), torch.full_like(grey, 255)
    )
