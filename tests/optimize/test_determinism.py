"""Training on a device gives the same bits whatever the order of threads, if that is asked for.

The CUDA text runs on the processor, forwards and backwards in the order of its threads.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated import emulated
from stand_in_device import DEVICE, there
from torch.utils._python_dispatch import TorchDispatchMode

from isolux import backends
from isolux.backends.cuda.launch import use_host
from isolux.optimize.checkpoint import latest
from isolux.optimize.determinism import determinism

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
STEPS = ("optimize.steps=2,2", "optimize.coarse_to_fine=false", "geometry.resolution=8")
NETWORK = ("geometry.extractor=flexicubes", "geometry.sdf=network", "material.log2_rows=8")
# What raises on a device in the deterministic mode, by torch's own list (the documentation of
# torch.use_deterministic_algorithms), as its dispatcher names it.
NO_SINGLE_RESULT = re.compile(
    r"avg_pool3d_backward|adaptive_(avg|max)_pool\dd_backward|fractional_max_pool|max_unpool|"
    r"upsample_(linear|bilinear|bicubic|trilinear)\w*_backward|reflection_pad\dd_backward|"
    r"nll_loss|ctc_loss|embedding_bag|^put_?\.|^histc\.|^median\.dim|grid_sampler_\dd_backward"
)


@pytest.fixture(autouse=True)
def settings_are_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, ":4096:8")
    yield
    assert not torch.are_deterministic_algorithms_enabled()
    use_host(None)


class Watched(TorchDispatchMode):
    """Notes the operations of torch that would raise on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.bad = set[str](), set[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(func).removeprefix("aten.")
        out = func(*args, **(kwargs or {}))
        self.seen.add(name.partition(".")[0])
        sums = name.startswith("cumsum") and out.is_floating_point()
        weighed = name.startswith("bincount") and len(args) > 1 and args[1] is not None
        product = name.startswith("scatter_reduce") and "prod" in (
            *args,
            *(kwargs or {}).values(),
        )
        if NO_SINGLE_RESULT.search(name) or sums or weighed or product:
            self.bad.add(name)
        return out


@pytest.fixture
def trained(
    isolux_train: Callable[..., int],
    scene_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, torch.Tensor]]:
    """Trains a little with the CUDA text; gives the last checkpoint and the file."""

    def train(backwards: bool, *more: str, device: str = "cpu") -> dict[str, torch.Tensor]:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        backend = replace(emulated(backwards), device=device)
        monkeypatch.setattr(backends, "select", lambda *_: backend)
        given = (f"data.path={scene_folder}", *STEPS, *more)
        assert isolux_train("nerf_synthetic", out, *given) == 0
        found = latest(out / "checkpoints")
        assert found is not None
        written = bytearray((out / "mesh" / "mesh.glb").read_bytes())
        return {**found.tensors, "mesh.glb": torch.frombuffer(written, dtype=torch.uint8)}

    return train


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in one | other if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize(
    "more",
    [(), (*NETWORK, "material.orm_max=1,1,1")],
)
def test_the_order_of_threads_does_not_change_a_bit(
    more: tuple[str, ...], trained: Callable[..., dict[str, torch.Tensor]]
) -> None:
    given = ("optimize.deterministic=true", *more)
    assert differing(trained(False, *given), trained(True, *given)) == []


def test_without_it_the_order_shows(trained: Callable[..., dict[str, torch.Tensor]]) -> None:
    assert differing(trained(False), trained(True))


def test_torch_has_one_result_for_all_that_training_does(
    trained: Callable[..., dict[str, torch.Tensor]],
) -> None:
    with there(), Watched() as watched:
        losses = [f"losses.{x}=1" for x in ("orm_smooth", "normal_consistency", "smooth_sdf")]
        trained(False, *NETWORK, *losses, device=DEVICE)
    assert watched.seen >= {"mm", "index_add", "avg_pool2d", "threshold_backward"}
    assert watched.bad == set()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cumsum(x[0], 0),
        lambda x: torch.bincount(torch.arange(3), weights=torch.rand(3)),
        lambda x: torch.nn.functional.interpolate(x[None], 9, mode="linear"),
        lambda x: torch.grid_sampler(x[None, None], torch.rand(1, 2, 2, 2), 0, 0, False),
        lambda x: x.clone().put_(torch.tensor([0, 0]), torch.rand(2), accumulate=True),
    ],
)
def test_what_has_none_is_noticed(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with Watched() as watched:
        x = torch.rand(4, 5, requires_grad=True)
        out = function(x)
        if out.requires_grad:
            out.sum().backward()  # type: ignore[no-untyped-call]
    assert watched.bad


def test_it_is_on_within_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with determinism(False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert os.environ[VARIABLE] == ":4096:8"  # for a later run in this process
    memory: Any = torch.utils.deterministic
    with determinism(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not memory.fill_uninitialized_memory
    assert memory.fill_uninitialized_memory


@pytest.mark.parametrize("given", [None, ":4096:2"])
def test_too_late_for_matrix_products(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.delenv(VARIABLE)
    if given:
        monkeypatch.setenv(VARIABLE, given)
    with determinism(False):
        assert os.environ.get(VARIABLE) == given
    with pytest.raises(ValueError, match=f"must be :4096:8.* is {given or 'not set'}"):
        determinism(True).__enter__()


def test_the_command_line_sets_the_variable_before_torch_loads() -> None:
    code = (
        "import os, sys; from isolux.cli import main; main(['conf']);"
        f"assert 'torch' not in sys.modules; print(os.environ['{VARIABLE}'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == [":4096:8"], done.stderr
