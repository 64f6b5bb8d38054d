"""The normal equations of a level: they are the energy's, symmetric, whatever the blocks."""

from typing import Any

import numpy as np
import pytest

from isolux.backends.cpu.pool import chunks
from isolux.geometry.points import assembly
from isolux.geometry.points import conjugate_gradients as cg
from isolux.geometry.points.assembly import System, assemble, field_at
from isolux.geometry.points.octree import LINE, PLANE, Samples, dilated, first_samples

SMOOTHNESS = 0.3


def level(count: int = 60, seed: int = 0) -> tuple[Any, Samples, Any, Any, Any, Any]:
    """Rows, samples, two weights a sample, extra weights and wanted values, all at random."""
    draw = np.random.default_rng(seed)
    local = 4 + 5 * draw.random((count, 3))
    normal = draw.normal(size=(count, 3)).astype(np.float32)
    samples = first_samples(local, normal, np.ones(count, np.float32))
    rows = dilated(samples.cells)
    value, slope = draw.random((2, len(samples)), np.float32)
    extra, wanted = draw.random((2, len(rows)), np.float32)
    return rows, samples, value, slope, extra, wanted


def system_of(parts: tuple[Any, ...]) -> System:
    rows, samples, value, slope, extra, wanted = parts
    return assemble(rows, samples, value, slope, SMOOTHNESS, extra, wanted)


def product(system: System, x: Any) -> Any:
    out = np.empty_like(x)
    scalar = cg._multiply(system, x, out)
    assert scalar == pytest.approx(float(x.astype(float) @ out), rel=1e-5, abs=1e-4)
    return out


def energy(parts: tuple[Any, ...], x: Any) -> float:
    """As the module states it, with a plain loop over second differences."""
    rows, samples, value, slope, extra, wanted = parts
    f, gradient = field_at(rows, x, samples)
    g = np.linalg.norm(gradient - samples.normal.reshape(-1, 3), axis=1)
    total = float((value * f * f + slope * g * g).sum() + (extra * (x - wanted) ** 2).sum())
    place = {int(key): i for i, key in enumerate(rows)}
    for key, i in place.items():
        for step in (1, LINE, PLANE):
            if key - step in place and key + step in place:
                bend = x[place[key - step]] - 2 * x[i] + x[place[key + step]]
                total += SMOOTHNESS * float(bend) ** 2
    return total


def test_the_equations_are_those_of_the_energy() -> None:
    """E(x) - E(0) = x A x - 2 b x, for any x."""
    parts = level()
    system = system_of(parts)
    draw = np.random.default_rng(1)
    nothing = energy(parts, np.zeros(len(system), np.float32))
    for _ in range(5):
        x = draw.normal(size=len(system)).astype(np.float32)
        found = float(x @ product(system, x) - 2 * system.right @ x)
        assert found == pytest.approx(energy(parts, x) - nothing, rel=1e-4)


def test_the_matrix_is_symmetric_and_positive() -> None:
    system = system_of(level(20))
    unit = np.eye(len(system), dtype=np.float32)
    matrix = np.stack([product(system, row) for row in unit])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    np.testing.assert_array_equal(matrix.diagonal(), system.diagonal)
    assert np.linalg.eigvalsh(matrix.astype(float))[0] > 0


@pytest.mark.parametrize("short", [1 << 16, 0])
def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch, short: int) -> None:
    """Many small ones whose columns are long or short numbers, or one block."""
    parts = level()
    whole = system_of(parts)
    monkeypatch.setattr(assembly, "_ROWS", 50)
    monkeypatch.setattr(assembly, "_SHORT", short)
    split = system_of(parts)
    assert split.ranges == chunks(len(whole), 50)
    assert {block[1].dtype.itemsize for block in split.blocks} == {2 if short else 4}
    assert split.entries == whole.entries
    x = np.random.default_rng(2).normal(size=len(whole)).astype(np.float32)
    np.testing.assert_allclose(product(split, x), product(whole, x), rtol=1e-4, atol=1e-4)


def test_the_solver_finds_the_least_energy() -> None:
    parts = level()
    system = system_of(parts)
    start = np.zeros(len(system), np.float32)
    x, steps, left = cg.solve(system, start, 1e-5, 500)
    assert 0 < steps < 500
    assert left <= 1e-5
    np.testing.assert_allclose(product(system, x), system.right, atol=1e-3)
