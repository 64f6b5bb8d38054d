"""Laws of the hash grid, for each backend."""

import pytest
import torch
from emulated import emulated
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.cuda.launch import use_host
from isolux.backends.encode import HashGridSpec, hash_grid

SMALL = HashGridSpec(levels=3, features=2, log2_rows=10, coarsest=4, finest=24)  # 2 direct


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)


def linear_table(spec: HashGridSpec, slope: Tensor) -> Tensor:
    """Rows of the direct levels hold <slope, position of their corner>, in both features."""
    table = torch.zeros(spec.rows, spec.features, dtype=torch.float64)
    for level in (k for k, direct in enumerate(spec.direct) if direct):
        n, scale = spec.resolutions[level], spec.scales[level]
        z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float64)] * 3, indexing="ij")
        corner = (torch.stack([x, y, z], -1).reshape(-1, 3) - 0.5) / scale
        first = spec.offsets[level]
        table[first : first + n**3] = (corner @ slope)[:, None]
    return table


def test_the_rows_are_those_of_tiny_cuda_nn() -> None:
    spec = HashGridSpec(levels=16, features=2, log2_rows=19, coarsest=16, finest=4096)
    assert spec.resolutions[:6] == (16, 24, 34, 49, 71, 102)
    assert spec.resolutions[-1] == 4096
    assert sum(spec.direct) == 5
    assert spec.rows == 6_299_960


@pytest.mark.parametrize(
    "wrong", [{"levels": 0}, {"features": 3}, {"log2_rows": 40}, {"coarsest": 1}, {"finest": 2}]
)
def test_a_value_out_of_range_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HashGridSpec(**wrong)


def test_a_constant_table_gives_the_constant(backend: Backend) -> None:
    table = torch.full((SMALL.rows, 2), 3.0, dtype=torch.float64)
    encoded = hash_grid(backend, random(50, 3), table, SMALL)
    torch.testing.assert_close(encoded, torch.full_like(encoded, 3.0))


def test_a_linear_field_is_kept_with_its_gradient(backend: Backend) -> None:
    slope = torch.tensor([0.3, -2.0, 1.1], dtype=torch.float64)
    points = (0.1 + 0.7 * random(60, 3)).requires_grad_()
    encoded = hash_grid(backend, points, linear_table(SMALL, slope), SMALL, active=2)
    expected = (points.detach() @ slope)[:, None].expand(-1, 4)
    torch.testing.assert_close(encoded[:, :4].detach(), expected)
    (gradient,) = torch.autograd.grad(encoded[:, :2].sum(), points)
    torch.testing.assert_close(gradient, 2 * slope.expand_as(points))


def test_columns_go_by_level_then_feature(backend: Backend) -> None:
    table = torch.zeros(SMALL.rows, 2, dtype=torch.float64)
    table[SMALL.offsets[1] : SMALL.offsets[2], 1] = 1.0
    encoded = hash_grid(backend, random(5, 3), table, SMALL)
    expected = torch.tensor([0, 0, 0, 1, 0, 0], dtype=torch.float64).expand(5, 6)
    torch.testing.assert_close(encoded, expected)


def test_it_is_continuous_across_cells(backend: Backend) -> None:
    table = random(SMALL.rows, 2, seed=1)
    step = torch.tensor([1e-9, 0, 0], dtype=torch.float64)
    for level in range(SMALL.levels):
        cell = torch.arange(1, SMALL.resolutions[level] - 1, dtype=torch.float64)
        points = random(len(cell), 3)
        points[:, 0] = (cell - 0.5) / SMALL.scales[level]
        before = hash_grid(backend, points - step, table, SMALL)
        after = hash_grid(backend, points + step, table, SMALL)
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


def test_outside_the_cube_the_nearest_point_counts(backend: Backend) -> None:
    table = random(SMALL.rows, 2)
    points = torch.tensor([[1.5, 0.5, -2.0]], dtype=torch.float64, requires_grad=True)
    encoded = hash_grid(backend, points, table, SMALL)
    held = hash_grid(backend, points.detach().clamp(0, 1), table, SMALL)
    torch.testing.assert_close(encoded.detach(), held)
    (gradient,) = torch.autograd.grad(encoded.square().sum(), points)
    assert gradient[0, 0] == 0
    assert gradient[0, 2] == 0
    assert gradient[0, 1] != 0


@pytest.mark.parametrize("features", [2, 4])
def test_gradients_match_finite_differences(backend: Backend, features: int) -> None:
    spec = HashGridSpec(levels=3, features=features, log2_rows=6, coarsest=2, finest=9)
    points = random(4, 3).requires_grad_()
    table = random(spec.rows, features, seed=1).requires_grad_()
    assert gradcheck(lambda p, t: hash_grid(backend, p, t, spec), (points, table))


def test_second_derivatives_match_finite_differences(backend: Backend) -> None:
    spec = HashGridSpec(levels=2, features=4, log2_rows=5, coarsest=2, finest=6)
    points = random(4, 3).requires_grad_()
    table = random(spec.rows, 4, seed=1).requires_grad_()

    def gradient(points: Tensor, table: Tensor, above: Tensor) -> Tensor:
        encoded = hash_grid(backend, points, table, spec)
        return torch.autograd.grad(encoded, points, above, create_graph=True)[0]

    above = random(4, spec.out_dim, seed=2).requires_grad_()
    assert gradcheck(gradient, (points, table, above))
    assert gradgradcheck(lambda p: hash_grid(backend, p, table.detach(), spec), (points,))


def test_an_eikonal_loss_trains_the_table(backend: Backend) -> None:
    table = (1e-2 * random(SMALL.rows, 2, dtype=torch.float32)).requires_grad_()
    head = random(6, 1, seed=3, dtype=torch.float32) - 0.5
    points = random(300, 3, seed=4, dtype=torch.float32).requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.02)
    losses = []
    for _ in range(60):
        field = hash_grid(backend, points, table, SMALL) @ head
        (slope,) = torch.autograd.grad(field.sum(), points, create_graph=True)
        loss = (slope.norm(dim=1) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("active", [0, 1, 2])
def test_inactive_levels_are_zero_and_stay_so(backend: Backend, active: int) -> None:
    points = random(20, 3).requires_grad_()
    table = random(SMALL.rows, 2).requires_grad_()
    encoded = hash_grid(backend, points, table, SMALL, active)
    full = hash_grid(backend, points, table, SMALL)
    torch.testing.assert_close(encoded[:, : 2 * active], full[:, : 2 * active])
    assert (encoded[:, 2 * active :] == 0).all()
    encoded.square().sum().backward()
    assert table.grad is not None
    assert (table.grad[SMALL.offsets[active] :] == 0).all()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_no_points_give_no_rows_and_zero_gradients(backend: Backend) -> None:
    table = random(SMALL.rows, 2).requires_grad_()
    points = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    encoded = hash_grid(backend, points, table, SMALL)
    assert encoded.shape == (0, 6)
    encoded.sum().backward()
    assert table.grad is not None
    assert (table.grad == 0).all()


def test_a_bad_point_reads_inside_the_table(backend: Backend) -> None:
    bad = torch.tensor([[float("nan"), 0.5, 0.5], [float("inf"), -float("inf"), 0.0]])
    held = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    table = random(SMALL.rows, 2, dtype=torch.float32)
    if backend.name != "reference":  # plain torch raises at its own index check
        assert torch.equal(
            hash_grid(backend, bad, table, SMALL), hash_grid(backend, held, table, SMALL)
        )


def test_a_table_of_another_shape_is_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="table must be"):
        hash_grid(backend, random(2, 3), random(7, 2), SMALL)


def test_backends_agree_in_single_precision(backend: Backend) -> None:
    spec = HashGridSpec(levels=8, features=2, log2_rows=12, coarsest=4, finest=200)
    results = []
    for each in (backend, backends.reference()):
        points = random(500, 3, dtype=torch.float32).requires_grad_()
        table = (random(spec.rows, 2, seed=1, dtype=torch.float32) - 0.5).requires_grad_()
        encoded = hash_grid(each, points, table, spec)
        found = torch.autograd.grad(encoded.square().sum(), (points, table))
        results.append((encoded.detach(), *found))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)


def test_backends_agree_on_points_in_a_row(backend: Backend) -> None:
    """Neighbours that share cells, and a table that begins anywhere."""
    spec = HashGridSpec(levels=6, features=4, log2_rows=8, coarsest=2, finest=40)
    line = torch.linspace(0.0, 1.0, 103, dtype=torch.float64)
    kept = random(1 + 4 * spec.rows, seed=1)
    results = []
    for each in (backend, backends.reference()):
        points = torch.stack([line, line.square(), 0.3 + 0.1 * line], -1).requires_grad_()
        table = kept[1:].reshape(spec.rows, 4).requires_grad_()
        encoded = hash_grid(each, points, table, spec)
        first = torch.autograd.grad(encoded.square().sum(), (points, table), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (points, table))
        results.append((encoded.detach(), *(t.detach() for t in (*first, *second))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux.backends.cpu import hashgrid

    monkeypatch.setattr(hashgrid, "_CHUNK", 64)
    backend = backends.select("cpu")
    results = []
    for count in (1, 3):
        pool.set_threads(count)
        points = random(1000, 3, dtype=torch.float32).requires_grad_()
        table = random(SMALL.rows, 2, dtype=torch.float32).requires_grad_()
        encoded = hash_grid(backend, points, table, SMALL)
        (slope,) = torch.autograd.grad(encoded.square().sum(), points, create_graph=True)
        second = torch.autograd.grad((slope.square().sum() + encoded.sum()), (points, table))
        results.append((encoded.detach(), slope.detach(), *second))
    pool.set_threads(None)
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)


def _backwards_and_forwards(deterministic: bool) -> list[list[Tensor]]:
    """Gradients to the table, of values and of slopes, by two orders of the threads."""
    torch.use_deterministic_algorithms(deterministic)
    try:
        results = []
        for backwards in (False, True):
            backend = emulated(backwards)
            points = random(3000, 3, dtype=torch.float32).requires_grad_()
            table = (random(SMALL.rows, 2, dtype=torch.float32) - 0.5).requires_grad_()
            encoded = hash_grid(backend, points, table, SMALL)
            first = torch.autograd.grad(
                encoded.square().sum(), (points, table), create_graph=True
            )
            (second,) = torch.autograd.grad(first[0].square().sum(), table)
            results.append([*(t.detach() for t in first), second])
    finally:
        torch.use_deterministic_algorithms(False)
        use_host(None)
    return results


def test_sums_in_fixed_point_do_not_depend_on_the_order_of_threads() -> None:
    plain, fixed = _backwards_and_forwards(False), _backwards_and_forwards(True)
    assert torch.equal(plain[0][0], plain[1][0])  # to the points: no threads share a sum
    for k in (1, 2):
        assert not torch.equal(plain[0][k], plain[1][k])
        assert torch.equal(fixed[0][k], fixed[1][k])
        size = float(plain[0][k].abs().max())
        torch.testing.assert_close(plain[0][k], fixed[0][k], rtol=1e-5, atol=1e-6 * size)


def test_fixed_point_holds_what_falls_in_one_place() -> None:
    """All points in one corner, all gradients the largest one, along the steepest direction."""
    points = torch.full((1000, 3), 0.5 / SMALL.scales[2], dtype=torch.float64)
    points += 1e-12  # in the corner of a cell of the finest level
    points.requires_grad_()
    table = random(SMALL.rows, 2).requires_grad_()
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for backend in (emulated(), backends.reference()):
            above = torch.ones(1000, SMALL.out_dim, dtype=torch.float64, requires_grad=True)
            encoded = hash_grid(backend, points, table, SMALL)
            slope, first = torch.autograd.grad(
                encoded, (points, table), above, create_graph=True
            )
            (second,) = torch.autograd.grad(slope, table, -torch.ones_like(slope))
            results.append((first.detach(), second))
    finally:
        torch.use_deterministic_algorithms(False)
        use_host(None)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
