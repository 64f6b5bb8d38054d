"""Run in, table out."""

from pathlib import Path
from typing import Any

from isolux.optimize.determinism import determinism
from isolux.optimize.files import RunFolder, write_json
from isolux.optimize.finish import comparisons, metrics_of
from isolux.optimize.memory import told_when_measuring
from isolux.optimize.open import open_scene
from isolux.optimize.report import write_report
from isolux.optimize.results import spread, view_metrics
from isolux.optimize.run import Run, load
from isolux.render.picture import write_png

__all__ = ["evaluate"]


def evaluate(folder: Path, split: str = "test") -> dict[str, Any]:
    """Measure a finished run anew and write metrics.json, the comparison pictures, the report.

    Args:
        folder: of the run.
        split: `test` or `train`: the views that are measured, all of them.

    Returns:
        What metrics.json holds.

    Raises:
        FileNotFoundError, ValueError: no run there, or its data are gone.
        MemoryError: of the device or the machine; what to change.
    """
    if split not in ("test", "train"):
        raise ValueError(f"--split must be test or train, got {split!r}")
    run = load(folder)
    with (
        told_when_measuring(run.conf, RunFolder(folder).conf),
        determinism(run.conf.optimize.deterministic),
    ):
        return _measured(run, split)


def _measured(run: Run, split: str) -> dict[str, Any]:
    scene = open_scene(run.conf.data, run.backend, run.conf.seed)
    metrics = metrics_of(run, scene)
    if split == "train":
        views, background = scene.train, run.conf.data.background
        chosen = spread(len(views), _MOST)
        metrics["train"] = view_metrics(
            run.backend, run.scene, views, chosen, run.lens, background
        ) | {"background": background}
    for part in ("time_s", "peak_rss_bytes"):
        if part in run.metrics:
            metrics[part] = run.metrics[part]
    place = RunFolder(run.folder)
    for name, picture in comparisons(run, scene).items():
        write_png(place.images / f"compare_{name}.png", picture)
    write_json(place.metrics, metrics)
    write_report(place)
    return metrics


_MOST = 1000  # views: of a mesh drawn on the fly there is no end
