"""What can be typed: the commands and their options."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from isolux import __version__

__all__ = ["FORMATS", "parse", "parser"]

_SETTING = re.compile(r"\w[\w.]*=.*", re.DOTALL)
FORMATS = ("glb", "obj", "ply")
"""Of a mesh, by the suffix of its file."""

_SOLVERS = ("hierarchy", "splines")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"isolux: {message} (see {self.prog} --help)\n")
        raise SystemExit(2)


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the `key=value` among the arguments, in any order with the options."""
    found = parser()
    options, rest = found.parse_known_args(arguments)
    settings = [text for text in rest if "=" in text and not text.startswith("-")]
    for text in rest:
        if text not in settings:
            bare = text.lstrip("-")
            hint = f"; settings have no dashes: {bare}" if _SETTING.fullmatch(bare) else ""
            hint = hint if options.takes_settings else ""
            found.error(f"unknown argument '{text}'{hint}")
    if settings and not options.takes_settings:
        found.error(f"{options.name} takes no settings, got '{settings[0]}'")
    return options, settings


def parser() -> argparse.ArgumentParser:
    """All commands and their options; `name` says which was typed."""
    found = _Parser(prog="isolux", description="Relightable meshes from masked photographs.")
    found.add_argument("--version", action="version", version=f"isolux {__version__}")
    commands = found.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, text: str, settings: bool = False) -> argparse.ArgumentParser:
        usage = f"isolux {name} [options]" + (" [key=value ...]" if settings else "")
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=text.lower().rstrip("."), description=text, usage=usage
        )
        command.set_defaults(name=name, takes_settings=settings)
        return command

    demo = add("demo", "Train the scene that ships with the package.", True)
    demo.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train = add("train", "Train a scene.", True)
    train.add_argument(
        "--conf",
        "--config",
        required=True,
        metavar="NAME_OR_PATH",
        help="a preset (isolux conf lists them), or a .conf or .json file",
    )
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    evaluate = add("eval", "Measure a finished run.")
    _add_run(evaluate)
    evaluate.add_argument("--split", default="test", choices=("train", "test"), help="views")
    _add_json(evaluate)
    export = add("export", "Write the mesh of a run to a file.")
    _add_run(export)
    export.add_argument("--format", choices=FORMATS, help="default: by suffix")
    export.add_argument("-o", "--output", required=True, type=Path, metavar="PATH")
    points = add("points", "Make a mesh from a point cloud.", True)
    points.add_argument("cloud", type=Path, metavar="CLOUD", help="a file or folder")
    points.add_argument("-o", "--output", required=True, type=Path, metavar="MESH")
    points.add_argument("--solver", choices=_SOLVERS, help="default: hierarchy")
    points.add_argument(
        "--conf", "--config", type=Path, metavar="PATH", help="settings, a .conf or .json file"
    )
    points.add_argument(
        "--save-grid", type=Path, metavar="PATH", help="values on a grid, as .npz"
    )
    points.add_argument(
        "--save-points", type=Path, metavar="PATH", help="the points that were used, as .npz"
    )
    points.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="where a large cloud's tiles are worked out and kept (default: beside the mesh, "
        "removed at the end)",
    )
    points.add_argument("--resume", action="store_true", help="go on in that folder")
    _add_json(points)
    learn = add("points-train", "Train the network of isolux points.", True)
    _add_conf(learn)
    learn.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    learned = add("points-test", "Measure the network of isolux points.", True)
    _add_conf(learned)
    _add_json(learned)
    conf = add("conf", "Print the resolved settings, or the names of presets.", True)
    conf.add_argument("conf", nargs="?", metavar="NAME_OR_PATH")
    _add_json(conf)
    sweep = add("sweep", "Train many scenes, or one with many settings.", True)
    sweep.add_argument("spec", type=Path, metavar="SPEC", help="what to sweep: .conf or .json")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--address", metavar="ADDRESS", help="a cluster of Ray, e.g. auto")
    where.add_argument("--slurm", action="store_true", help="a job of SLURM for each trial")
    where.add_argument("--local", action="store_true", help="plain processes, without Ray")
    sweep.add_argument("--resume", action="store_true", help="go on with what is not done")
    _add_json(sweep)
    bench = add("bench", "Run the benchmarks.")
    bench.add_argument("names", nargs="*", metavar="NAME", help="only these")
    _add_json(bench)
    _add_json(add("doctor", "Say what was found on this machine."))
    return found


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run", required=True, type=Path, metavar="DIR", help="run folder")


def _add_conf(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--conf", "--config", type=Path, metavar="PATH", help="settings, a .conf or .json file"
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="as JSON")
