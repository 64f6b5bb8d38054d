"""Observers see every step, act when they are due, and Ctrl-C loses nothing."""

import io
import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from isolux.optimize.log import append_line, cut_log, read_log
from isolux.optimize.observers import (
    CheckpointObserver,
    LogLines,
    Observer,
    PictureObserver,
    Progress,
    StepInfo,
    ValidationObserver,
    catch_interrupts,
)


def info(step: int, steps: int = 25, stage: str = "mesh", loss: float = 0.5) -> StepInfo:
    """The step-th step is done."""
    terms = {"image": torch.tensor(loss, requires_grad=True), "mask": torch.tensor(0.25)}
    return StepInfo(stage, step - 1, steps, terms, terms["image"] * 2, 0.1 * step, step / steps)


def run(observer: Observer, steps: int = 25, stage: str = "mesh", first: int = 0) -> None:
    for step in range(first + 1, steps + 1):
        observer(info(step, steps, stage))


@pytest.mark.parametrize("kind", [CheckpointObserver, PictureObserver])
def test_every_so_many_steps_and_at_the_end(kind: type[CheckpointObserver]) -> None:
    seen: list[int] = []
    run(kind(10, lambda i: seen.append(i.done)))
    assert seen == [10, 20, 25]


def test_zero_is_never() -> None:
    run(PictureObserver(0, lambda i: pytest.fail("called")))


def test_numbers_are_read_only_when_asked_for() -> None:
    step = info(3)
    assert "terms" not in vars(step)
    assert step.terms == {"image": 0.5, "mask": 0.25}
    assert step.total == 1.0


def test_the_log_has_a_line_a_due_step(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    run(LogLines(log, every=10))
    lines = read_log(log)
    assert [line["step"] for line in lines] == [10, 20, 25]
    assert lines[0]["terms"] == {"image": 0.5, "mask": 0.25}
    assert lines[0]["total"] == 1.0
    assert lines[-1]["progress"] == 1.0
    assert lines[0]["seconds"] == pytest.approx(1.0)


def test_the_log_takes_what_is_not_finite(tmp_path: Path) -> None:
    LogLines(tmp_path / "log.jsonl", every=1)(info(1, loss=float("nan")))
    assert json.loads((tmp_path / "log.jsonl").read_text())["terms"]["image"] is None


def test_validation_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    run(ValidationObserver(20, lambda i: {"psnr": 20.0 + i.done}, log))
    assert [(line["kind"], line["step"], line["psnr"]) for line in read_log(log)] == [
        ("validation", 20, 40.0),
        ("validation", 25, 45.0),
    ]


@pytest.mark.parametrize("seconds", [0.0, 1.95, 2.0, 2.55, 3.01, 99.0])
def test_a_resumed_log_is_that_of_a_straight_run(tmp_path: Path, seconds: float) -> None:
    """Steps take 0.1 s each; the checkpoint was written so many seconds into the run."""

    def straight(first: float) -> None:
        for stage, begin in (("topology", 0), ("mesh", 25)):
            observer = LogLines(log, 10)
            for step in range(1, 26):
                at = 0.1 * (begin + step)
                if at > first:
                    observer(replace(info(step, stage=stage), seconds=at))

    log = tmp_path / "log.jsonl"
    straight(0.0)
    whole = [(line["stage"], line["step"]) for line in read_log(log)]
    with log.open("a") as file:
        file.write('{"kind": "step", "stage": "me')  # the kill came while it wrote
    cut_log(log, seconds)
    assert all(line["seconds"] <= seconds for line in read_log(log))
    straight(seconds)
    assert [(line["stage"], line["step"]) for line in read_log(log)] == whole


def test_there_may_be_no_log_yet(tmp_path: Path) -> None:
    cut_log(tmp_path / "log.jsonl", 0.0)
    assert read_log(tmp_path / "log.jsonl") == []


def test_a_full_disk_is_one_line(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, {"stage": "mesh", "step": 1})
    with full_disk(40), pytest.raises(OSError, match="cannot be written"):
        append_line(log, {"stage": "mesh", "step": 2, "text": "x" * 100})
    assert [line["step"] for line in read_log(log)] == [1]
    append_line(log, {"stage": "mesh", "step": 3})
    assert [line["step"] for line in read_log(log)] == [1, 3]


def test_plain_progress_is_a_few_lines() -> None:
    text = io.StringIO()
    with Progress(Console(file=text, width=40), seconds=60.0) as progress:
        run(progress, 500, "mesh [red]")
    lines = text.getvalue().splitlines()
    assert len(lines) == 2  # the first step, to show life, and the last
    assert lines[-1].startswith("mesh [red] 500/500")
    assert "steps/s" in lines[-1]
    assert "loss 1" in lines[-1]


def test_a_terminal_gets_a_bar_a_stage() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, color_system=None)
    with Progress(console) as progress:
        run(progress, 30, "topology")
        run(progress, 40, "mesh")
    assert "topology" in text.getvalue()
    assert "40/40" in text.getvalue()
    progress.close()


def test_ctrl_c_ends_after_the_step_with_a_checkpoint() -> None:
    saved: list[int] = []
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def loop() -> None:
        with catch_interrupts() as interrupt:
            for step in range(1, 11):
                if step == 4:
                    os.kill(os.getpid(), signal.SIGINT)
                seen.append(step)
                if interrupt.requested:
                    saved.append(step)
                interrupt.raise_if_requested()

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert saved == [4]
    assert seen == [1, 2, 3, 4]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_is_immediate() -> None:
    with catch_interrupts() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_processes_agree_on_being_asked() -> None:
    """One was asked: all stop, where all look."""
    seen = list[bool]()
    with catch_interrupts(lambda own: bool(seen.append(own)) or True) as interrupt:
        assert interrupt.agreed()
        with pytest.raises(KeyboardInterrupt):
            interrupt.raise_if_requested()
    assert seen == [False, False]
