"""The report opens offline, survives missing parts and hostile names, shows what is known."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from isolux.optimize.curves import chart
from isolux.optimize.files import RunFolder, write_json
from isolux.optimize.log import append_line
from isolux.optimize.report import report_html, write_report
from isolux.render.picture import write_png

HOSTILE = "</title><script>alert('1')</script>\" onerror=x & <img src=http://evil>"


class Page(HTMLParser):
    """Elements with their attributes, and text; complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def safe(page: Page) -> None:
    """Nothing is fetched, nothing is run."""
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "link", "object"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("src", "href"):
            if name in attributes:
                assert str(attributes[name]).startswith("data:"), (tag, attributes)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder with something of everything."""
    folder = RunFolder(tmp_path / "spot")
    conf = {"seed": 3, "optimize": {"steps": [7, 1000]}, "data": {"kind": "auto"}}
    folder.create(conf | {"run": {"version": "0.1.0", "command": ["isolux", "train"]}})
    for stage in ("topology", "mesh"):
        for step in (10, 20, 30):
            place = {"stage": stage, "step": step, "seconds": 1.0}
            line = {"kind": "step", "total": 0.1 / step, "terms": {"image": 0.5 / step}}
            append_line(folder.log, place | line | {"steps_per_second": 3.0})
            append_line(folder.log, place | {"kind": "validation", "psnr": 20.0 + step})
    write_json(
        folder.metrics,
        {
            "scene": "cow",
            "test": {"psnr": 33.456, "ssim": 0.98, "silhouette_iou": 0.99, "views": 20},
            "surface": {
                "to_reference_mean": 0.001,
                "from_reference_mean": 0.002,
                "reference_diagonal": 2.0,
            },
            "mesh": {"triangles": 12345, "watertight": True, "manifold": False},
            "time_s": {"total": 312.0},
            "peak_rss_bytes": 2**31,
        },
    )
    for name in ("compare_a", "compare_b", "progress_mesh_000010"):
        write_png(folder.images / f"{name}.png", torch.zeros(8, 8, 3, dtype=torch.uint8))
    (folder.mesh / "mesh.glb").write_bytes(b"glTF")
    return folder


def test_it_shows_what_is_known(folder: RunFolder) -> None:
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    safe(page)
    for text in (
        "33.46",
        "0.9800",
        "0.100",  # the worse direction, in percent of the diagonal
        "12\u202f345",
        "watertight, not manifold",
        "5 min 12 s",
        "2.00",
        "isolux train",
        "isolux 0.1.0",
        "scene cow",
    ):
        assert text in page.text
    assert len(page.of("img")) == 3
    assert len(page.of("svg")) == 4
    assert [a["download"] for a in page.of("a")] == ["mesh.glb"]


def test_changed_settings_stand_out(folder: RunFolder) -> None:
    text = report_html(folder)
    changed = re.findall(r'<tr class="changed"><th>([^<]*)', text)
    assert set(changed) == {"seed", "optimize.steps"}
    assert "data.kind" in text


def test_stages_follow_each_other(folder: RunFolder) -> None:
    """Steps 10 to 30 of two stages are steps 10 to 60 of the run."""
    first = re.search(r"<svg.*?</svg>", report_html(folder), re.S)
    assert first is not None
    ticks = re.findall(r'text-anchor="middle">([^<]*)', first.group())
    assert ticks == ["0", "20", "40", "60"]
    assert first.group().count('class="mark"') == 2


def test_hostile_names_are_text(folder: RunFolder) -> None:
    write_json(folder.metrics, {"scene": HOSTILE, "test": {HOSTILE: HOSTILE}, "mesh": {}})
    write_json(
        folder.conf, {"out": HOSTILE, HOSTILE: {HOSTILE: 1}, "run": {"command": HOSTILE}}
    )
    line = {"kind": "step", "stage": HOSTILE, "step": 1, "total": 1.0, "terms": {HOSTILE: 2.0}}
    append_line(folder.log, line)
    hostile_file = HOSTILE.replace("/", "_")
    (folder.images / "compare_a.png").rename(folder.images / f"{hostile_file}.png")
    (folder.images / "progress_mesh_000010.png").rename(
        folder.images / f"progress_{hostile_file}.png"
    )
    folder = RunFolder(folder.path.rename(folder.path.with_name(hostile_file)))
    page = Page(report_html(folder))
    safe(page)
    assert page.text.count("<script>") >= 8


@pytest.mark.parametrize("part", ["conf", "log", "metrics", "images", "mesh", "all"])
@pytest.mark.parametrize("how", ["missing", "broken"])
def test_parts_may_be_missing_or_broken(folder: RunFolder, part: str, how: str) -> None:
    parts = ("conf", "log", "metrics", "images", "mesh") if part == "all" else (part,)
    for name in parts:
        path: Path = getattr(folder, name)
        for file in path.iterdir() if path.is_dir() else [path]:
            file.unlink() if how == "missing" else file.write_bytes(b'{"a": ')
    page = Page(report_html(folder))
    safe(page)
    assert "spot" in page.text


def test_values_of_other_kinds(folder: RunFolder) -> None:
    folder.metrics.write_text(
        '{"test": {"psnr": NaN, "ssim": "x"}, "mesh": 3, "time_s": {"total": null}}'
    )
    folder.log.write_text(
        '{"kind": "step"}\n{"kind": "step", "step": "x", "terms": [1], "total": {}}\n'
    )
    safe(Page(report_html(folder)))


def test_no_folder_at_all(tmp_path: Path) -> None:
    safe(Page(report_html(RunFolder(tmp_path / "none"))))


def test_large_assets_stay_outside(folder: RunFolder) -> None:
    (folder.mesh / "mesh.glb").write_bytes(bytes(9_000_000))
    assert not Page(report_html(folder)).of("a")


def test_large_pictures_are_made_smaller(folder: RunFolder) -> None:
    noise = torch.randint(0, 256, (300, 4000, 3), dtype=torch.uint8)
    write_png(folder.images / "compare_c.png", noise)
    assert len(report_html(folder)) < 3_000_000


def coordinates(svg: str) -> list[tuple[float, float]]:
    line = re.search(r'class="curve" d="([^"]*)"', svg)
    assert line is not None
    pairs = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", line.group(1))
    return [(float(x), float(y)) for x, y in pairs]


def test_a_line_is_drawn_straight() -> None:
    points = coordinates(chart({"a": [(x, 2.0 * x) for x in range(11)]}))
    (x0, y0), (x1, y1) = points[0], points[-1]
    assert x1 > x0
    assert y1 < y0  # upwards
    for x, y in points:
        assert y == pytest.approx(y0 + (y1 - y0) * (x - x0) / (x1 - x0), abs=0.2)


def test_a_decay_is_straight_on_a_logarithmic_axis() -> None:
    points = coordinates(chart({"a": [(x, 10.0**-x) for x in range(4)]}, logarithmic=True))
    drops = [b[1] - a[1] for a, b in pairwise(points)]
    assert drops == pytest.approx([drops[0]] * 3, abs=0.2)
    assert drops[0] > 0


@pytest.mark.parametrize(
    "points",
    [
        [(5.0, 1.0)],
        [(0.0, 0.0), (1.0, 0.0)],
        [(0.0, 1e30), (1.0, 1e30)],
        [(0.0, -1e-30), (1.0, 1e-30)],
        [(0.0, float("nan")), (1.0, 2.0), (2.0, None), (3.0, float("inf")), (4.0, 1.0)],
        [(0.0, 1e-300), (1.0, 1e300)],
        [(float(x), 1.0 + x) for x in range(100_000)],
    ],
)
@pytest.mark.parametrize("logarithmic", [False, True])
def test_any_numbers_can_be_drawn(points: list[tuple[float, float]], logarithmic: bool) -> None:
    svg = chart({"a": points}, logarithmic)
    assert "nan" not in svg
    assert "inf" not in svg
    assert len(svg) < 20_000
    for x, y in coordinates(svg) if svg else []:
        assert 0 <= x <= 560
        assert -1 <= y <= 261


def test_words_of_marks_do_not_run_into_each_other() -> None:
    marks = [(0.0, "topology, coarse"), (10.0, "topology"), (80.0, "mesh"), (500.0, "never")]
    svg = chart({"a": [(float(x), 1.0) for x in range(101)]}, marks=marks)
    heights = re.findall(r'y="(\d+)">(topology, coarse|topology|mesh|never)<', svg)
    assert heights == [("22", "topology, coarse"), ("36", "topology"), ("22", "mesh")]


def test_nothing_is_no_chart() -> None:
    assert chart({}) == chart({"a": []}) == chart({"a": [(0.0, None)]}) == ""
    assert chart({"a": [(0.0, -1.0)]}, logarithmic=True) == ""
