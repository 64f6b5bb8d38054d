"""In the deterministic mode no result of the CUDA text depends on the order of its threads."""

import re
from importlib import resources

import pytest
import torch
from orders import both_orders
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.rasterize import interpolate, rasterize

TEXT = {
    path.name: path.read_text()
    for path in resources.files("isolux.backends.cuda").joinpath("text").iterdir()
    if path.name.endswith((".cu", ".cuh"))
}
# The types of tensors as kernels declare them; integers have one sum whatever the order.
DECLARED = re.compile(r"\b(real|float|double|int|long long|word)\s*\*\s*(\w+)")
# A minimum or maximum has one result; whatever else is atomic is looked at.
ADDED_TO = re.compile(r"\batomic(?!_?[mM](?:in|ax))\w*\(\s*\(?(?:\w+\s*\*\s*\))?\s*&?(\w+)")
DEFINITION = re.compile(r"DEVICE \w+ atomic_add\(")


def unordered(text: str) -> list[str]:
    """Lines that add to floating point numbers in whatever order threads come.

    A line may do so if it says why: `// any order: ...`.
    """
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if DEFINITION.match(line):
            continue
        for place in ADDED_TO.findall(line.partition("//")[0]):
            # The nearest declaration above is the one that counts.
            above = DECLARED.findall("\n".join(lines[: number + 1]))
            types = [kind for kind, name in above if name == place]
            whole = types and types[-1] in ("int", "long long", "word")
            if not whole and "// any order: " not in line:
                found.append(line.strip())
    return found


@pytest.mark.parametrize("file", sorted(TEXT))
def test_floating_point_numbers_are_added_by_sum_up(file: str) -> None:
    assert unordered(TEXT[file]) == []


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("atomic_add(total + 3 * k, g);", False),
        ("atomic_add(&total[k], g);", False),
        ("atomicAdd(total, g);", False),
        ("atomicCAS((word*)total, old, bits_of(g));", False),
        ("if (g < *total) atomic_min(total, g);", True),
        ("atomic_add(unknown, g);", False),
        ("atomic_add(listed, 1);", True),
        ("atomicAdd((word*)fixed, 1);", True),
        ("atomic_add(total, g);  // any order: a count of threads, for a picture", True),
        ("sum_up(total, fixed, scale, k, g);  // not atomic_add(total, g)", True),
    ],
)
def test_such_lines_are_found(line: str, allowed: bool) -> None:
    head = "KERNEL f(real* total, int* listed, long long* fixed, const double* scale) {\n"
    assert (unordered(f"{head}  {line}\n}}") == []) is allowed


def compared(plain: tuple[Tensor, Tensor], fixed: tuple[Tensor, Tensor]) -> None:
    """The order shows in plain sums, not in fixed point, and both mean the same."""
    assert not torch.equal(*plain)
    assert torch.equal(*fixed)
    scale = float(fixed[0].abs().max())
    torch.testing.assert_close(plain[0], fixed[0], rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [1, 5])
def test_interpolation(columns: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    attributes = torch.randn(12, columns, generator=generator, dtype=dtype)
    corners = torch.randint(12, (20, 3), generator=generator, dtype=torch.int32)
    corners[0] = 7  # a face of one corner
    triangle = torch.randint(20, (4000,), generator=generator, dtype=torch.int32)
    uv = torch.rand(4000, 2, generator=generator, dtype=dtype) * 0.5

    def run(backend: Backend) -> tuple[Tensor, ...]:
        leaf = attributes.clone().requires_grad_()
        out = interpolate(backend, leaf, corners, triangle, uv)
        return torch.autograd.grad((out.square() * 1e3).sum(), leaf)

    (plain,), (fixed,) = (
        zip(*both_orders(run, deterministic), strict=True) for deterministic in (False, True)
    )
    compared(plain, fixed)


def test_a_gradient_that_is_no_number_spoils_its_corners_only() -> None:
    corners, triangle = torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([0, 1])
    uv, above = torch.full((2, 2), 0.25), torch.tensor([[torch.inf, 1.0], [2.0, 3.0]])

    def run(backend: Backend) -> tuple[Tensor, ...]:
        leaf = torch.zeros(4, 2, requires_grad=True)
        return torch.autograd.grad(
            interpolate(backend, leaf, corners, triangle, uv), leaf, above
        )

    (found,), _ = both_orders(run, deterministic=True)
    assert found[:3, 0].isnan().all()
    torch.testing.assert_close(found[:, 1], torch.tensor([0.25, 1.0, 1.25, 1.5]))
    assert float(found[3, 0]) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rasterisation(dtype: torch.dtype) -> None:
    """Random triangles across the picture, some of them through the camera's plane."""
    generator = torch.Generator().manual_seed(3)
    clip = torch.randn(2, 30, 4, generator=generator, dtype=dtype)
    clip[..., 3] += 1.5
    faces = torch.randint(30, (40, 3), generator=generator)
    pull = torch.randn(2, 40, 50, 2, generator=generator, dtype=dtype)

    def run(backend: Backend) -> tuple[Tensor, ...]:
        leaf = clip.clone().requires_grad_()
        raster = rasterize(backend, leaf, faces, 40, 50)
        return torch.autograd.grad((raster.uv * pull).sum(), leaf)

    (plain,), (fixed,) = (
        zip(*both_orders(run, deterministic), strict=True) for deterministic in (False, True)
    )
    assert fixed[0].count_nonzero() > 60
    compared(plain, fixed)
