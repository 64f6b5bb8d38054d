"""What a run was is what it is after reading it again, whatever happened to the files."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from isolux.optimize.checkpoint import (
    Checkpoint,
    latest,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)

FullDisk = Callable[[int], AbstractContextManager[None]]


def at(step: int, stage: str = "mesh") -> Checkpoint:
    """A checkpoint whose tensor says which one it is."""
    return Checkpoint(stage, step, 1.5, {"value": torch.full((50,), float(step))}, {"a": [1]})


def test_everything_comes_back(tmp_path: Path) -> None:
    base = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    tensors = {
        "turned": base.T,
        "part": base[1],
        "again": base,
        "number": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "grad": torch.ones(2, requires_grad=True),
        "nan": torch.tensor([float("nan"), -0.0]),
    }
    path = save_checkpoint(
        tmp_path, Checkpoint("topology", 40, 12.25, tensors, {"x": {"y": 1}})
    )
    read = load_checkpoint(path)
    assert (read.stage, read.step, read.seconds, read.extra) == (
        "topology",
        40,
        12.25,
        {"x": {"y": 1}},
    )
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read.tensors[name].dtype == tensor.dtype
        torch.testing.assert_close(
            read.tensors[name], tensor.detach(), equal_nan=True, rtol=0, atol=0
        )


def test_others_may_read_as_the_mask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    mode = save_checkpoint(tmp_path / "checkpoints", at(1)).stat().st_mode
    assert mode == (tmp_path / "plain").stat().st_mode


def test_the_last_two_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    for stage, step in [("topology", 900), ("topology", 1000), ("mesh", 100)]:
        save_checkpoint(tmp_path, at(step, stage))
    assert len(list(tmp_path.iterdir())) == 2
    newest = latest(tmp_path)
    assert newest is not None
    assert (newest.stage, newest.step) == ("mesh", 100)


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip, lambda _: b"", lambda _: b"garbage" * 99],
    ids=["cut", "bit", "empty", "other"],
)
def test_a_damaged_one_falls_back_to_the_one_before(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, at(1))
    path = save_checkpoint(tmp_path, at(2))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=str(path)) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING):
        read = latest(tmp_path)
    assert read is not None
    assert read.step == 1
    assert path.name in caplog.text


def test_rotation_does_not_count_broken_ones(tmp_path: Path) -> None:
    for step in (1, 2):
        path = save_checkpoint(tmp_path, at(step))
    path.write_bytes(b"")
    save_checkpoint(tmp_path, at(3))
    steps = [load_checkpoint(path).step for path in sorted(tmp_path.iterdir())]
    assert steps == [1, 3]


def test_another_safetensors_file_is_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="no checkpoint of isolux"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_full_disk_keeps_the_last_one(tmp_path: Path, full_disk: FullDisk) -> None:
    save_checkpoint(tmp_path, at(1))
    big = Checkpoint("mesh", 2, 0.0, {"big": torch.zeros(100_000)})
    with full_disk(10_000), pytest.raises(OSError, match="cannot be written: File too large"):
        save_checkpoint(tmp_path, big)
    assert len(list(tmp_path.iterdir())) == 1
    read = latest(tmp_path)
    assert read is not None
    assert read.step == 1


def test_none_is_none(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert latest(tmp_path / "missing") is None
    with pytest.raises(FileNotFoundError, match="missing"):
        load_checkpoint(tmp_path / "missing")


class Toy(torch.nn.Module):
    """Two groups, one parameter of which never gets a gradient."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        seeded = torch.Generator().manual_seed(0)
        self.a = torch.nn.Parameter(torch.rand(7, 3, generator=seeded))
        self.b = torch.nn.Parameter(torch.rand(5, generator=seeded))
        self.idle = torch.nn.Parameter(torch.zeros(2))
        groups = [
            {"params": [self.a, self.idle], "lr": 0.1, "name": "geometry"},
            {"params": [self.b], "lr": 0.02, "name": "material", "betas": (0.7, 0.9)},
        ]
        self.optimizer = torch.optim.Adam(groups, fused=fused)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.zero_grad()
            (self.a.square().sum() + (self.b * self.b.sum()).sin().sum()).backward()
            self.optimizer.step()
            self.optimizer.param_groups[0]["lr"] *= 0.9


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_a_resumed_optimiser_goes_on_bit_for_bit(tmp_path: Path, fused: bool) -> None:
    straight, before, after = Toy(fused), Toy(fused), Toy(fused)
    straight.steps(9)
    before.steps(5)
    state = {f"model.{k}": v for k, v in before.state_dict().items()}
    save_checkpoint(
        tmp_path, Checkpoint("mesh", 5, 0.0, state | optimizer_tensors(before.optimizer))
    )
    read = latest(tmp_path)
    assert read is not None
    after.load_state_dict({k[6:]: v for k, v in read.tensors.items() if k.startswith("model.")})
    load_optimizer_tensors(after.optimizer, read.tensors)
    after.steps(4)
    for ours, wanted in zip(after.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, wanted)
    names = set(optimizer_tensors(after.optimizer))
    assert "optim.geometry.0.exp_avg" in names
    assert "optim.material.lr" in names
    assert not any(name.startswith("optim.geometry.1") for name in names)


def test_loading_does_not_share_memory() -> None:
    first, second = Toy(True), Toy(True)
    first.steps(1)
    tensors = optimizer_tensors(first.optimizer)
    load_optimizer_tensors(second.optimizer, tensors)
    kept = tensors["optim.geometry.0.exp_avg"].clone()
    second.steps(1)
    assert torch.equal(tensors["optim.geometry.0.exp_avg"], kept)


def test_a_state_of_another_shape_is_refused() -> None:
    toy = Toy(True)
    toy.steps(1)
    tensors = optimizer_tensors(toy.optimizer)
    with pytest.raises(ValueError, match=r"optim\.geometry\.0\.exp_avg.*\(3,\)"):
        load_optimizer_tensors(
            toy.optimizer, {**tensors, "optim.geometry.0.exp_avg": torch.zeros(3)}
        )
    with pytest.raises(ValueError, match=r"no place for.*optim\.light"):
        load_optimizer_tensors(
            toy.optimizer, {**tensors, "optim.light.0.exp_avg": torch.zeros(3)}
        )
