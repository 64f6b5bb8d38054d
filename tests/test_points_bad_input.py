"""Clouds that no surface goes through, as a user gives them: one line, or a mesh."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from isolux.cli import main

SMALL = ("depth=4", "threads=1")


def ball(count: int = 200) -> np.ndarray:
    normals = np.random.default_rng(0).normal(size=(count, 3))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def made(xyz: np.ndarray, folder: Path, *more: str) -> tuple[int, Path]:
    cloud, mesh = folder / "cloud.xyz", folder / "mesh.ply"
    np.savetxt(cloud, xyz, fmt="%.17g")
    return main(["points", str(cloud), "-o", str(mesh), *SMALL, *more]), mesh


@pytest.mark.parametrize("solver", ["hierarchy", "splines"])
@pytest.mark.parametrize(
    "xyz",
    [
        np.zeros((0, 3)),
        ball()[:1],
        ball()[:2],
        np.ones((50, 3)),
        np.full((9, 3), np.nan),
        1e300 * ball(),
    ],
    ids=["none", "one", "two", "one place", "nan", "overflow"],
)
def test_one_line(
    solver: str, xyz: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, mesh = made(xyz, tmp_path, f"solver={solver}")
    said = [line for line in capsys.readouterr().err.splitlines() if "isolux: " in line]
    assert code == 2
    assert len(said) == 1
    assert not mesh.exists()


LINE = np.linspace(0, 1, 50)[:, None] * np.ones(3)
UP = np.tile([0.0, 0.0, 1.0], (50, 1))


@pytest.mark.parametrize("solver", ["hierarchy", "splines"])
@pytest.mark.parametrize(
    ("xyz", "said"),
    [
        (LINE, "on one line or in one place"),
        (np.c_[LINE, UP], "on one line or in one place"),
        (np.c_[np.ones((50, 3)), UP], "points"),
        (ball()[:1], "normals need at least 3 points, got 1"),
        (1e-60 * ball(), "need 1e-30 to 1e+30; take another unit"),
        (1e60 * ball(), "need 1e-30 to 1e+30; take another unit"),
    ],
    ids=["line", "line with normals", "one place with normals", "one", "tiny", "vast"],
)
def test_the_line_names_the_file_and_what_is_wrong(
    solver: str, xyz: np.ndarray, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, mesh = made(xyz, tmp_path, f"solver={solver}")
    line = next(x for x in capsys.readouterr().err.splitlines() if "isolux: " in x)
    assert code == 2
    assert line.count("cloud.xyz: ") == 1
    assert said in line
    assert not mesh.exists()


def test_a_stray_is_told_and_what_leaves_it_out_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xyz = np.r_[ball(), [[1e8, 0, 0]]]
    assert made(xyz, tmp_path, "depth=none", "voxel_size=0.1", "clean.outliers=0")[0] == 2
    assert "clean.outliers=4 leaves strays out" in capsys.readouterr().err
    assert made(xyz, tmp_path, "clean.outliers=4")[0] == 0
    assert made(ball(), tmp_path, "depth=none", "voxel_size=1e-9")[0] == 2
    assert "clean.outliers" not in capsys.readouterr().err


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_a_ball_of_any_size_with_rows_that_are_none(scale: float, tmp_path: Path) -> None:
    rows = np.r_[ball(), ball(), np.full((40, 3), np.nan), np.full((1, 3), 1e200)]
    code, path = made(scale * rows, tmp_path)
    assert code == 0
    vertices = np.asarray(trimesh.load(path, process=False).vertices) / scale
    assert np.abs(np.linalg.norm(vertices, axis=1) - 1).max() < 0.25
