"""The benchmarks at their smallest: what they return, and that a mistake is told."""

import json

import pytest

from isolux import bench
from isolux.backends.cpu import pool
from isolux.bench.measure import Row, Times, on_threads, timed

SMALL = {
    "rasterise": {"sizes": ("5k",), "size": 32, "views": 1, "repeats": 1},
    "hash_grid": {"points": 100, "log2_rows": (8,), "repeats": 1},
    "mlp": {"points": 64, "repeats": 1},
    "extract": {"resolution": 8, "repeats": 1},
    "step_mesh": {"size": 32, "along": 24, "around": 8, "steps": 1},
    "step_topology": {"size": 32, "resolution": 8, "steps": 1},
    "determinism": {"size": 32, "resolution": 8, "steps": 1},
}
KEYS = {"benchmark", "case", "value", "median", "unit", "figure", "met", "note"}


@pytest.mark.parametrize("name", SMALL)
def test_rows_are_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = bench.run([name], SMALL)
    assert result["rows"]
    for row in result["rows"]:
        assert row.keys() == KEYS
        assert row["benchmark"] == name
        assert not row["note"].startswith("failed"), row["note"]
        assert row["value"] >= 0.0
        if name == "determinism":
            assert row["met"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert name in capsys.readouterr().err
    table = bench.text_table(result).splitlines()
    assert len(table) == 2 + len(result["rows"])


def test_machine_is_named() -> None:
    from isolux.bench.registry import machine

    assert {"processor", "cores", "torch", "numba", "load_before"} <= machine().keys()


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="no benchmark 'rasterize'; there are rasterise"):
        bench.run(["rasterize"])


def test_a_failure_is_a_row_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux.bench import registry

    def broken(**_: object) -> list[Row]:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(registry.BENCHMARKS, "rasterise", broken)
    rows = bench.run(["rasterise", "mlp"], SMALL)["rows"]
    assert rows[0]["note"] == "failed: no such luck"
    assert rows[0]["value"] is None
    assert rows[1]["benchmark"] == "mlp"
    assert "no such luck" in bench.text_table(
        {"machine": bench.run(["mlp"], SMALL)["machine"], "rows": rows}
    )


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            "no CUDA driver (libcuda.so.1 is not here): install it",
            "no GPU rows: no CUDA driver (l",
        ),
        (None, "no GPU rows: python -m isolux.bench.gpu measures them"),
    ],
)
def test_a_device_is_measured_elsewhere(
    problem: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from isolux.bench import registry

    monkeypatch.setattr(registry, "cuda_problem", lambda: problem)
    rows = bench.run(["mlp"], SMALL)["rows"]
    assert [row["benchmark"] for row in rows] == ["mlp", "mlp"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(said)
    assert "install" not in last


@pytest.mark.parametrize(
    ("figure", "met"),
    [(None, None), (("<=", 2.0), True), (("<=", 1.0), False), ((">=", 3.0), False),
     (("==", 2.0), True)],
)  # fmt: skip
def test_figures(figure: object, met: bool | None) -> None:
    assert Row("x", 2.0, "ms", figure).met is met  # type: ignore[arg-type]


def test_least_and_median() -> None:
    row = Times([9.0, 7.0, 8.0], [3.0, 1.0, 5.0]).row("x")
    assert (row.value, row.median, row.unit) == (1.0, 3.0, "ms cpu")
    calls: list[int] = []
    assert len(timed(lambda: calls.append(0), 4).wall) == 4
    assert len(calls) == 5  # one to warm up


def test_number_of_threads_comes_back() -> None:
    before = pool.threads()
    with on_threads(before + 1):
        assert pool.threads() == before + 1
    assert pool.threads() == before
