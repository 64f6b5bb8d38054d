"""The loop: what is tried again, how often, and what happens when it is asked to stop."""

from pathlib import Path

import pytest

from isolux.sweep import drive as module
from isolux.sweep.attempt import Attempt, Outcome, State
from isolux.sweep.drive import Asked, Result, drive
from isolux.sweep.engines import Engine
from isolux.sweep.progress import duration, time_left


class Scripted(Engine):
    """Attempts end in the order they came, as a table says: states by name of the trial."""

    def __init__(self, ends: dict[str, list[State]], slots: int = 1) -> None:
        self.name, self.slots = "scripted", slots
        self.ends = {name: list(states) for name, states in ends.items()}
        self.queue: list[Attempt] = []
        self.seen: list[tuple[str, int]] = []
        self.most = 0

    def submit(self, attempt: Attempt) -> None:
        self.queue.append(attempt)
        self.seen.append((attempt.name, attempt.number))
        self.most = max(self.most, len(self.queue))

    def finished(self, seconds: float) -> list[tuple[Attempt, Outcome]]:
        if not self.queue:
            return []
        attempt = self.queue.pop(0)
        return [(attempt, Outcome(self.ends[attempt.name].pop(0), seconds=2.0))]

    def close(self) -> None:
        pass


class Silent(Scripted):
    """Never answers."""

    def finished(self, seconds: float) -> list[tuple[Attempt, Outcome]]:
        return []


def first(*names: str) -> list[Attempt]:
    path = Path("x")
    return [Attempt(name, 1, path, path, path, path) for name in names]


def run(
    engine: Scripted, folder: Path, retries: int = 2, stop_at: str = ""
) -> tuple[dict[str, Result], list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    asked = Asked(folder / "stop")

    def tell(name: str, result: Result) -> None:
        told.append((name, result.state))
        if name == stop_at and result.state == "running":
            asked.again()

    return drive(first(*engine.ends), engine, retries, asked, tell), told


def test_crashes_are_tried_again_at_the_end_of_the_queue(tmp_path: Path) -> None:
    engine = Scripted({"a": ["crashed", "crashed", "done"], "b": ["done"]})
    results, _ = run(engine, tmp_path)
    assert engine.seen == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    assert results["a"] == Result("done", 3, 6.0)
    assert list(results) == ["a", "b"]


def test_retries_end(tmp_path: Path) -> None:
    engine = Scripted({"a": ["crashed"] * 9, "b": ["done"]})
    results, _ = run(engine, tmp_path, retries=1)
    assert results["a"].state == "crashed"
    assert results["a"].attempts == 2
    assert results["b"].state == "done"


@pytest.mark.parametrize("state", ["failed", "mistake", "out of time", "interrupted"])
def test_nothing_else_is_tried_again(state: State, tmp_path: Path) -> None:
    results, _ = run(Scripted({"a": [state, "done"], "b": ["done"]}), tmp_path)
    assert results["a"].state == state
    assert results["b"].state == "done"  # one that fails does not stop the others


def test_no_more_at_once_than_there_are_slots(tmp_path: Path) -> None:
    engine = Scripted({name: ["done"] for name in "abcdefg"}, slots=3)
    run(engine, tmp_path)
    assert engine.most == 3


def test_asked_to_stop_nothing_new_begins(tmp_path: Path) -> None:
    engine = Scripted({"a": ["crashed", "done"], "b": ["done"], "c": ["done"]})
    results, told = run(engine, tmp_path, stop_at="a")
    assert engine.seen == [("a", 1)]
    assert (tmp_path / "stop").read_text() == "stop"
    assert {name: result.state for name, result in results.items()} == {
        "a": "crashed",  # it is not lost: a sweep that resumes takes it up
        "b": "interrupted",
        "c": "interrupted",
    }
    assert ("b", "running") not in told


def test_workers_that_do_not_answer_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GIVE_UP", 0.0)
    results, _ = run(Silent({"a": ["done"]}), tmp_path, stop_at="a")
    assert results["a"].state == "interrupted"


def test_time_left() -> None:
    assert time_left([], 3, 1, 1) is None
    assert time_left([10.0, 20.0], 4, 0, 2) == 30.0
    assert time_left([10.0], 0, 1, 8) == 5.0
    assert time_left([10.0], 0, 0, 8) == 0.0
    assert [duration(s) for s in (4.2, 65, 7500)] == ["4 s", "1 min 5 s", "2 h 5 min"]
