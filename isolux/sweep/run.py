"""A sweep from its file to its page."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import isolux
from isolux.confs.errors import ConfError
from isolux.optimize.files import write_json
from isolux.optimize.lock import locked
from isolux.render.files import write_text
from isolux.sweep import table
from isolux.sweep.attempt import Attempt
from isolux.sweep.drive import Result, catch_stops, drive
from isolux.sweep.engines import Engine, LocalEngine, gpus
from isolux.sweep.page import page
from isolux.sweep.progress import SweepProgress
from isolux.sweep.spec import SweepSpec, read_spec
from isolux.sweep.trials import OWN, Trial, changed_since, trials_of

__all__ = ["choose_engine", "sweep"]

_INSTALL = "pip install 'isolux[cluster]'"
EngineOf = Callable[[SweepSpec, int], tuple[Engine, str]]


def sweep(
    path: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    engine_of: EngineOf | None = None,
    command: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train every trial of a sweep, and write `sweep.json`, `sweep.md` and `sweep.html`.

    Args:
        path: the specification, `.conf` or `.json`.
        overrides: `key=value` on top of it.
        resume: go on with the sweep that is in the folder; what is done stays.
        engine_of: gives the engine and a line about the choice, from the specification and
            the number of trials; none is `choose_engine`.
        command: what is called in the place of `isolux`.

    Returns:
        What `sweep.json` holds.

    Raises:
        ConfError, OSError: what a person can mend, before anything is started.
        KeyboardInterrupt: on Ctrl-C, after the workers have ended; the sweep can be resumed.
    """
    spec = read_spec(path, overrides)
    trials = trials_of(spec, path)
    assert spec.out is not None
    _check(spec.out, trials, resume)
    rest = [trial for trial in trials if not trial.done]
    results = {trial.name: Result("done" if trial.done else "waiting") for trial in trials}
    with ExitStack() as stack:
        engine, note = None, ""
        if rest:
            engine, note = (engine_of or choose_engine)(spec, len(rest))
            stack.callback(engine.close)
        stack.enter_context(locked(spec.out / OWN))
        for trial in trials:
            write_json(_settings(spec.out, trial), trial.conf)
        _write(spec, trials, results)
        try:
            if engine:
                _run(spec, rest, results, engine, note, command)
        finally:
            tree = _write(spec, trials, results)
        return tree


def choose_engine(
    spec: SweepSpec,
    trials: int,
    address: str | None = None,
    slurm: bool = False,
    local: bool = False,
) -> tuple[Engine, str]:
    """The engine, and a line for people where it is not the one they may have expected.

    Raises:
        ConfError: a package is missing that was asked for, or a trial fits nowhere.
    """
    if slurm:
        if find_spec("submitit") is None:
            raise ConfError(f"--slurm: needs submitit: {_INSTALL}")
        from isolux.sweep.slurm_engine import SlurmEngine

        assert spec.out is not None
        return SlurmEngine(spec, spec.out / OWN / "slurm", trials), ""
    unseen = ""
    if not address and not spec.resources.gpus and (count := len(gpus())):
        unseen = f"resources.gpus is 0: trials do not use the {count} GPUs of this machine"
    if local:
        return LocalEngine(spec.resources), unseen
    if find_spec("ray") is None:
        if address:
            raise ConfError(f"--address: needs Ray: {_INSTALL}")
        return LocalEngine(spec.resources), unseen or (
            f"Ray is not installed ({_INSTALL}): trials are plain processes of this machine"
        )
    from isolux.sweep.ray_engine import RayEngine

    return RayEngine(spec.resources, address, trials), unseen


def _check(out: Path, trials: Sequence[Trial], resume: bool) -> None:
    """Refuses a folder that holds another sweep, or nothing to go on from."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out}: is a file; name a folder with out=...")
    begun = [trial for trial in trials if trial.folder.path.exists() and trial.folder.begun]
    there = (out / "sweep.json").exists()
    if (there or begun) and not resume:
        what = "a sweep" if there else f"a run, {begun[0].name}"
        raise FileExistsError(
            f"{out}: already holds {what}; go on with it by --resume,"
            " or choose another folder with out=..."
        )
    if resume and not there:
        raise FileNotFoundError(f"{out}: holds no sweep to resume; start without --resume")
    lines = []
    for trial in begun:
        if changes := changed_since(trial):
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            lines.append(
                f"{trial.folder.path}: was begun with other settings:"
                f" {', '.join(changes[:3])}{more}; put them back, remove the folder, or choose"
                " another out=..."
            )
    if lines:
        raise ConfError("\n".join(lines))


def _settings(out: Path, trial: Trial) -> Path:
    return out / OWN / f"{trial.name}.json"


def _run(
    spec: SweepSpec,
    trials: Sequence[Trial],
    results: dict[str, Result],
    engine: Engine,
    note: str,
    command: tuple[str, ...],
) -> None:
    """Fills in the results of the trials that are not done yet."""
    assert spec.out is not None
    first = [_first_attempt(spec, trial, command) for trial in trials]
    stop = spec.out / OWN / "stop"
    with SweepProgress(results, engine.slots) as progress, catch_stops(stop) as asked:
        known = len(results) - len(trials)
        before = f", {known} done already" if known else ""
        progress.say(f"{len(results)} trials{before}; {engine.name}")
        if note:
            progress.say(note)

        def tell(name: str, result: Result) -> None:
            results[name] = result
            progress(name, result)

        try:
            results.update(drive(first, engine, spec.retries, asked, tell))
        except BaseException:
            asked.again()  # what still runs shall end
            raise
        finally:
            engine.close()
        if asked.times:
            raise KeyboardInterrupt


def _first_attempt(spec: SweepSpec, trial: Trial, command: tuple[str, ...]) -> Attempt:
    assert spec.out is not None
    own = spec.out / OWN
    return Attempt(
        name=trial.name,
        number=1,
        folder=trial.folder.path,
        settings=_settings(spec.out, trial),
        log=own / f"{trial.name}.log",
        stop=own / "stop",
        minutes=spec.minutes,
        command=command,
    )


def _write(
    spec: SweepSpec, trials: Sequence[Trial], results: Mapping[str, Result]
) -> dict[str, Any]:
    """The table as JSON and markdown, and the page; gives the first."""
    assert spec.out is not None
    rows = [table.row(trial, results[trial.name]) for trial in trials]
    count = Counter(item["state"] for item in rows)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    tree = {
        "version": isolux.__version__,
        "date": date,
        "spec": spec.model_dump(mode="json"),
        "counts": dict(count),
        "trials": rows,
    }
    title = spec.out.name
    facts = [
        f"isolux {isolux.__version__}",
        f"from {spec.conf}",
        f"{len(rows)} trials",
        *(f"{number} {state}" for state, number in count.items()),
        date,
    ]
    write_json(spec.out / "sweep.json", tree)
    write_text(spec.out / "sweep.md", table.markdown(title, rows))
    write_text(spec.out / "sweep.html", page(title, facts, rows, spec.out))
    return tree
