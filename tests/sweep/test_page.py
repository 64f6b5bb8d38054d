"""The page and the tables: complete, offline, and safe for any name."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from isolux.sweep import table
from isolux.sweep.page import page


def row(name: str, scene: str, psnr: float | None, state: str = "done", **more: Any) -> Any:
    metrics: dict[str, float | None] = dict.fromkeys(table.HEADS)
    metrics["test.psnr"] = psnr
    plain = {
        "name": name,
        "scene": scene,
        "varied": {"seed": 1},
        "state": state,
        "reason": "" if state == "done" else "why",
        "attempts": 1,
        "exit_code": 0,
        "seconds": 65.0,
        "out": f"out/{name}",
        "metrics": metrics,
    }
    return {**plain, **more}


class Links(HTMLParser):
    """Everything that a browser would follow or fetch, and what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for key, value in attrs if key in ("src", "href")]


def test_the_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a 1", "b"):
        (out / name / "images").mkdir(parents=True)
    (out / "a 1" / "report.html").write_text("x")
    Image.new("RGB", (3000, 100), "red").save(out / "a 1" / "images" / "compare_x.png")
    Image.new("RGB", (30, 10), "red").save(out / "a 1" / "images" / "progress_x.png")
    (out / "b" / "images" / "compare_x.png").write_bytes(b"no picture")
    rows = [
        row("a 1", "s<1>", 30.0, out=str(out / "a 1")),
        row("b", "s<1>", None, "failed", reason="<b>bad</b>", out=str(out / "b")),
    ]
    text = page("t<script>", ["2 & 3"], rows, out)
    links = Links()
    links.feed(text)
    assert "script" not in links.tags
    assert text.count("<img") == 1
    assert [target for target in links.targets if not target.startswith(("#", "data:"))] == [
        "a%201/report.html"
    ]
    assert "default-src 'none'" in text
    for escaped in ("s&lt;1&gt;", "t&lt;script&gt;", "&lt;b&gt;bad&lt;/b&gt;", "2 &amp; 3"):
        assert escaped in text
    for target in links.targets:
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in text


def test_the_best_of_a_scene() -> None:
    rows = [row("a", "s", 30.0), row("b", "s", 31.0), row("c", "t", 9.0), row("d", "s", None)]
    assert table.best(rows) == {("b", "test.psnr")}
    assert table.best([row("a", "s", 30.0), row("b", "s", 30.0)]) == set()
    lower = [row("a", "s", 30.0), row("b", "s", 31.0)]
    for item, error in zip(lower, (0.5, 0.1), strict=True):
        item["metrics"]["surface.error_percent"] = error
    assert ("b", "surface.error_percent") in table.best(lower)


def test_texts() -> None:
    rows = [row("a", "s", 30.0), row("b|c", "s", None, "crashed")]
    assert table.columns(rows) == ["trial", "state", "PSNR [dB]", "time", "attempts"]
    lines = table.text(rows).splitlines()
    assert lines[1] == "a      done         30.00  1 min 5 s         1"
    assert lines[-1] == "b|c: crashed: why"
    text = table.markdown("t", rows)
    assert "| b\\|c | crashed |" in text
    assert "- b|c: crashed: why" in text


@pytest.mark.parametrize("metrics", ["", "[]", "{", '{"test": 3}', '{"test": {"psnr": "x"}}'])
def test_metrics_that_are_none(metrics: str, bench: Any) -> None:
    """A file that was spoilt is no result: the trial is taken up again, or has no figures."""
    bench.run()
    (bench.out / "a_resolution-16" / "metrics.json").write_text(metrics)
    found = bench.run(resume=True)
    again = "a_resolution-16 1 resume" in bench.starts()
    assert again == (not metrics.startswith('{"'))
    assert found["a_resolution-16"]["metrics"]["test.psnr"] == (21.6 if again else None)
    assert found["b_resolution-16"]["metrics"]["test.psnr"] == 21.6
