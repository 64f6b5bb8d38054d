"""The command line. It reads, checks and says what is wrong before anything heavy is loaded.

Exit codes: 0 success; 1 a failure of the program; 2 a mistake in what was asked, told in one
line each; 130 interrupted.
"""

import argparse
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from isolux.cli_parser import FORMATS, parse
from isolux.failure import Failure

__all__ = ["main"]

# What a person can put right. ISOLUX_TRACEBACK=1 shows where it was found.
_MISTAKES = (ValueError, OSError, KeyError, ImportError)
_FAILURES = (FloatingPointError, MemoryError, ConnectionError)  # one line is enough
_OF_A_DEVICE = ("OutOfMemoryError", "AcceleratorError")  # torch's, where it has them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: without the program's name; none takes those of the process.

    Returns:
        The exit code.
    """
    # Set before torch loads. Idle OpenMP threads that spin take a third of a small machine;
    # with huge pages a step has a hundred page faults in place of five thousand.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Read by cuBLAS when it starts: without it optimize.deterministic comes too late.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _open_streams()
    try:
        options, settings = parse(sys.argv[1:] if arguments is None else arguments)
        code = _COMMANDS[options.name](options, settings)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        return _say(str(error) or "interrupted", 130)
    except BrokenPipeError:  # `isolux conf spot | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _FAILURES as error:
        return _say(_line(error), 1)
    except RuntimeError as error:
        if not _of_the_machine(error):
            raise  # a fault of ours
        return _say(_line(error).partition("\n")[0], 1)  # the rest is for who looks into it
    except _MISTAKES as error:
        if isinstance(error, ImportError) and (error.name or "").startswith("isolux"):
            raise  # a part of our own is broken; an optional package is another matter
        return _say(_line(error), 2)


def _open_streams() -> None:
    """Output that is closed swallows what is written; what has no sign for a letter escapes it.

    Neither may end a run that has been trained.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str, code: int) -> int:
    if os.environ.get("ISOLUX_TRACEBACK", "0") not in ("", "0") and sys.exc_info()[0]:
        traceback.print_exc()
    for line in text.splitlines() or ["failed"]:
        sys.stderr.write(f"isolux: {line}\n")
    return code


def _line(error: BaseException) -> str:
    """What an error says, without the decoration of its class."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def _of_the_machine(error: RuntimeError) -> bool:
    """Whether we or torch say that a device, its driver or its libraries have failed."""
    torch = sys.modules.get("torch")  # without it, none of its errors
    known = tuple(getattr(torch, name) for name in _OF_A_DEVICE if hasattr(torch, name))
    return isinstance(error, (Failure, *known)) or str(error).startswith("CUDA error: ")


def _train(options: argparse.Namespace, settings: list[str]) -> int:
    return _run(options.conf, settings, options.resume)


def _demo(options: argparse.Namespace, settings: list[str]) -> int:
    if not options.resume and not any(text.startswith("out=") for text in settings):
        settings = [*settings, f"out={_free(Path('out', 'demo'))}"]
    return _run("demo", settings, options.resume)


def _run(conf_name: str, settings: list[str], resume: bool) -> int:
    from isolux.confs.read import check_inputs, read_conf

    conf = read_conf(conf_name, settings)
    check_inputs(conf)
    assert conf.out is not None  # read_conf() sees to it
    _check_writable(conf.out, "out", "out=DIR")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    import_module("isolux.train").train(conf, resume)
    if not import_module("isolux.optimize.distributed").is_first():
        return 0
    look = {
        "report.html": "numbers, curves and pictures, in any browser",
        "mesh/mesh.glb": "the textured mesh, for Blender and any glTF viewer",
        "mesh/mesh.obj": "the same as OBJ, with its textures and the light (probe.hdr)",
    }
    _print(f"run folder: {conf.out}")
    for name, text in look.items():
        if (conf.out / name).exists():
            _print(f"  {conf.out / name}  {text}")
    return 0


def _free(path: Path) -> Path:
    """The path, or the first of path-2, path-3 ... that is not there."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _check_writable(folder: Path, key: str, remedy: str) -> None:
    """Find out now, not after torch has loaded, whether a folder can be made.

    Raises:
        NotADirectoryError, PermissionError: naming the folder that is in the way.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{key}: {there} is a file; name a folder: {remedy}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{key}: {there} cannot be written; name another: {remedy}")


def _eval(options: argparse.Namespace, _: list[str]) -> int:
    folder = _run_folder(options.run)
    result = import_module("isolux.eval").evaluate(folder, options.split)
    return _show(result, options.json)


def _export(options: argparse.Namespace, _: list[str]) -> int:
    suffix = options.output.suffix.lstrip(".").lower()
    kind = options.format or suffix
    if kind not in FORMATS:
        raise ValueError(f"{options.output}: give --format glb, obj or ply")
    if kind != suffix and suffix in FORMATS:
        raise ValueError(f"{options.output}: is no name for --format {kind}")
    if options.output.is_dir():
        raise IsADirectoryError(f"{options.output}: is a folder; name a file: -o PATH")
    folder = _run_folder(options.run)
    _check_writable(options.output.parent, "--output", "-o PATH")
    run = import_module("isolux.train").load(folder)
    import_module("isolux.optimize.finish").export(run, options.output, kind)
    _print(f"wrote {options.output}")
    return 0


def _points(options: argparse.Namespace, settings: list[str]) -> int:
    from isolux.confs.read import read_points

    if options.solver:
        settings = [*settings, f"solver={options.solver}"]
    conf = read_points(settings, options.conf)
    suffix = options.output.suffix.lower()
    if suffix.lstrip(".") not in FORMATS:
        raise ValueError(f"-o {options.output}: name a .ply, .obj or .glb file")
    if options.output.is_dir():
        raise IsADirectoryError(f"-o {options.output}: is a folder; name a file in it")
    if not options.cloud.exists():
        raise FileNotFoundError(f"{options.cloud}: no such file or folder")
    for name, path in (
        ("-o", options.output),
        ("--save-grid", options.save_grid),
        ("--save-points", options.save_points),
        ("--work", options.work),
    ):
        if path is not None:
            _check_writable(path.parent, name, f"{name} PATH")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    progress = import_module("isolux.optimize.observers").shares
    with progress() as tell:
        points = import_module("isolux.points")
        files = points.Files(
            options.save_grid, options.save_points, options.work, options.resume
        )
        result = points.reconstruct(options.cloud, options.output, conf, tell, files)
    _show(result, options.json)
    if not options.json:
        _print(f"wrote {options.output}")
    return 0


def _points_train(options: argparse.Namespace, settings: list[str]) -> int:
    from isolux.confs.read import read_points_learning

    conf = read_points_learning(settings, options.conf)
    _check_writable(conf.out, "out", "out=FOLDER")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    with import_module("isolux.optimize.observers").shares() as tell:
        training = import_module("isolux.optimize.points_learning")
        path = training.train_network(conf, options.resume, tell)
    _print(f"wrote {path}")
    return 0


def _points_test(options: argparse.Namespace, settings: list[str]) -> int:
    from isolux.confs.read import read_points_learning

    conf = read_points_learning(settings, options.conf)
    if conf.network is not None and not conf.network.is_file():
        raise FileNotFoundError(f"network: no such file: {conf.network}")
    with import_module("isolux.optimize.observers").shares() as tell:
        result = import_module("isolux.optimize.points_measured").measured(conf, tell)
    return _show(result, options.json)


def _run_folder(path: Path) -> Path:
    if path.is_file():
        raise NotADirectoryError(f"--run {path}: is a file; name the folder of a run")
    if not path.is_dir():
        raise FileNotFoundError(f"--run {path}: no such folder")
    if not (path / "conf.json").is_file():
        raise FileNotFoundError(f"--run {path}: is no run folder, conf.json is not there")
    return path


def _conf(options: argparse.Namespace, settings: list[str]) -> int:
    from isolux.confs.read import presets, read_conf

    if options.conf is None:
        if settings:
            raise ValueError(f"'{settings[0]}': name a preset or a file before it")
        return _show({"presets": presets()}, options.json)
    conf = read_conf(options.conf, settings)
    return _show(conf.model_dump(mode="json"), options.json)


def _sweep(options: argparse.Namespace, settings: list[str]) -> int:
    from isolux.sweep import run, table

    def engine(spec: Any, trials: int) -> Any:
        return run.choose_engine(spec, trials, options.address, options.slurm, options.local)

    result = run.sweep(options.spec, settings, options.resume, engine)
    out = Path(result["spec"]["out"])
    if options.json:
        _show(result, True)
    else:
        _print(table.text(result["trials"]))
        _print(f"pictures and numbers: {out / 'sweep.html'}")
    return 0 if all(item["state"] == "done" for item in result["trials"]) else 1


def _bench(options: argparse.Namespace, _: list[str]) -> int:
    bench = import_module("isolux.bench")
    result = bench.run(options.names)
    if options.json:
        return _show(result, True)
    _print(bench.text_table(result))
    return 0


def _doctor(options: argparse.Namespace, _: list[str]) -> int:
    from isolux.doctor import examine

    return _show(examine(), options.json)


def _show(tree: Mapping[str, Any], as_json: bool) -> int:
    if as_json:
        _print(json.dumps(tree, indent=2, ensure_ascii=False))
    else:
        rows = list(_rows(tree))
        width = max((len(key) for key, _ in rows), default=0)
        for key, text in rows:
            _print(f"{key:{width}}  {text}".rstrip())
    return 0


def _rows(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a tree, by dotted name, as a person would type them."""
    from isolux.confs.describe import shown

    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", shown(value)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


_COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "demo": _demo,
    "train": _train,
    "eval": _eval,
    "export": _export,
    "points": _points,
    "points-train": _points_train,
    "points-test": _points_test,
    "conf": _conf,
    "sweep": _sweep,
    "bench": _bench,
    "doctor": _doctor,
}
