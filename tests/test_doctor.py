"""What the doctor says of backends and of packages that could stand in for operators."""

import json
from collections.abc import Callable
from importlib import util
from types import SimpleNamespace
from typing import Any

import pytest

from isolux import backends, doctor
from isolux.backends import adapters
from isolux.backends.adapters import ADAPTERS
from isolux.cli import main


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `isolux doctor --json` prints."""
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    return tree


def test_it_explains_why_auto_does_not_take_cuda(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "why_not_cuda", lambda: "the reason")
    tree = said(capsys)
    assert tree["backend"] == "cpu"
    assert tree["backend_why"].startswith("not cuda: the reason")
    assert tree["backends"] == {
        "cpu": "ok",
        "reference": "ok",
        "cuda": "not usable: the reason",
    }


def test_a_backend_that_fails_is_no_failure_of_the_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr(backends, "why_not_cuda", fail)
    tree = said(capsys)
    assert tree["backends"]["cuda"] == "fails: out of luck"
    assert (tree["backend"], tree["backend_why"]) == ("none", "out of luck")
    assert tree["backends"]["cpu"] == "ok"


def test_driver_and_compiler_are_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"driver": "no CUDA driver", "nvrtc": None}

    def imported(name: str) -> SimpleNamespace:
        return SimpleNamespace(available=lambda: answers[name.rpartition(".")[2]])

    monkeypatch.setattr(doctor, "import_module", imported)
    assert said(capsys)["cuda"] == {"driver": "no CUDA driver", "nvrtc": "ok"}


def test_every_adapter_has_its_state_and_licence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is missing, one that is too old, one that is fine; none is imported."""
    versions = {"tinycudann": "1.5", "kaolin": "0.18.1"}
    find = util.find_spec

    def there(name: str, *more: Any) -> Any:
        return versions.get(name) if name in ADAPTERS else find(name, *more)

    monkeypatch.setattr(util, "find_spec", there)
    monkeypatch.setattr(adapters, "version", versions.get)
    found = said(capsys)["adapters"]
    assert found.keys() == ADAPTERS.keys()
    assert "not installed, need nvdiffrast >= 0.4" in found["nvdiffrast"]["state"]
    assert "tinycudann 1.5 is too old" in found["tinycudann"]["state"]
    assert found["kaolin"]["state"] == "0.18.1 is here, taken where it is named"
    assert "no commercial use" in found["nvdiffrast"]["licence"]
    for name, adapter in ADAPTERS.items():
        assert found[name]["licence"] == adapter.licence
        assert found[name]["offers"] == ", ".join(adapter.operators)
        assert f"operators.{adapter.operators[0]}={name}" in found[name]["chosen_by"]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def run() -> str:
        capsys.readouterr()
        assert main(["doctor"]) == 0
        return capsys.readouterr().out

    return run


def test_the_table_for_people_says_the_same(shown: Callable[[], str]) -> None:
    text = shown()
    assert "backend_why" in text
    assert "adapters.nvdiffrast.licence" in text
