"""A package imports only from those named before it, and the front answers without torch."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ORDER = [
    "failure",
    "ray_session",
    "backends",
    "encoders",
    "geometry",
    "render",
    "data",
    "confs",
    "optimize",
    "points",
    "train",
    "eval",
    "bench",
    "sweep",
    "doctor",
    "cli_parser",
    "cli",
]
FRONT = {"__init__", "__main__"}  # loads the rest on use only
ROOT = Path(__file__).parents[1] / "isolux"
FILES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def ours(names: set[str]) -> set[str]:
    """The packages of isolux among them."""
    split = [name.split(".") for name in names]
    return {parts[1] for parts in split if parts[0] == "isolux" and parts[1:]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if package == "confs":  # is read and checked before torch loads
        assert ours(imported(path)) <= {"confs"}
    elif package not in FRONT:
        assert ours(imported(path)) <= set(ORDER[: ORDER.index(package) + 1])


def test_every_import_is_declared() -> None:
    needed = {Requirement(text) for text in metadata.requires("isolux") or []}
    core = {item.name.lower().replace("-", "_") for item in needed if item.marker is None}
    homes = {"PIL": "pillow", "pyparsing": "pyhocon"}  # pyparsing comes with pyhocon
    found: dict[str, str] = {}
    for path in FILES:
        for name in imported(path):
            top = name.partition(".")[0]
            if top != "isolux" and top not in sys.stdlib_module_names:
                found[homes.get(top, top).lower()] = str(path.relative_to(ROOT))
    optional = {"viser", "mitsuba", "imageio_ffmpeg"}
    undeclared = {name: file for name, file in found.items() if name not in core | optional}
    assert not undeclared
    assert not core - found.keys(), "declared and never imported"


@pytest.mark.parametrize(
    "statement",
    [
        "import isolux",
        "import isolux.cli",
        "import isolux.confs.read",
        "import isolux.doctor",
        "import isolux.sweep.run",
    ],
)
def test_the_front_does_not_load_torch(statement: str) -> None:
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_stays_a_function() -> None:
    code = (
        "import sys, types, isolux; sys.modules['isolux.train'] = types.ModuleType('x');"
        "isolux.train = sys.modules['isolux.train']; sys.exit(not callable(isolux.train))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
