"""Prepared clouds on disk, one file each, made when first asked for.

A cloud is a matter of the seed and its number, whoever makes it and when.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from isolux.geometry.points.extraction import Level
from isolux.geometry.points.learned.clouds import random_scan, random_surface
from isolux.geometry.points.learned.ladder import Prepared, prepared
from isolux.geometry.points.learned.shapes import Surface
from isolux.geometry.points.weights import Weights

__all__ = ["cloud_number"]

_DENSE_EACH = 3  # one in so many clouds has several points in its finest cells, and more noise


def cloud_number(folder: Path, number: int, seed: int, least: int, most: int) -> Prepared:
    """Read or make a cloud of `least` to `most` points.

    Args:
        folder: of the files.
        number: of the cloud; a shape gives two.
        seed: of all clouds.
        least: points.
        most: points.

    Raises:
        OSError: when the folder cannot be written.
        ValueError: for a file that holds something else.
    """
    path = folder / f"{number:05d}.npz"
    if path.is_file():
        return _read(path)
    made = _made(number, seed, least, most)
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        np.savez_compressed(file, **_packed(made))
    beside.replace(path)
    return made


def _made(number: int, seed: int, least: int, most: int) -> Prepared:
    dense = number % _DENSE_EACH == _DENSE_EACH - 1
    if dense:
        least, most = 3 * least, 3 * most
    for attempt in range(100):
        surface = random_surface(np.random.default_rng([seed, number // 2, attempt]))
        rng = np.random.default_rng([seed, number, attempt, 1])
        quiet = logging.getLogger("isolux")
        level, quiet.level = quiet.level, logging.ERROR  # normals are meant to be bad
        try:
            made = _prepared(surface, least, most, dense, rng)
        finally:
            quiet.setLevel(level)
        if made is not None and made.weights:
            return made
    raise RuntimeError(f"no cloud number {number}: a hundred shapes had no levels")


def _prepared(
    surface: Surface, least: int, most: int, dense: bool, rng: np.random.Generator
) -> Prepared | None:
    noisiest, fullest = (0.03, (2.0, 6.0)) if dense else (0.016, (1.0, 2.2))
    return prepared(random_scan(surface, least, most, noisiest, rng), fullest, rng)


def _packed(given: Prepared) -> dict[str, Any]:
    arrays = {
        "local": given.local,
        "normals": given.normals,
        "rows": given.top.rows,
        "coefficient": given.top.coefficient,
    }
    for number, weights in given.weights.items():
        arrays[f"weights_{number}"] = np.array(
            [weights.value, weights.normal, weights.smoothness]
        )
        for part, array in zip(
            ("places", "away", "towards"), given.queries[number], strict=True
        ):
            arrays[f"{part}_{number}"] = array.astype(
                np.float64 if part == "places" else np.float32
            )
    return arrays


def _read(path: Path) -> Prepared:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        numbers = [int(key[8:]) for key in arrays if key.startswith("weights_")]
        top = Level(arrays["rows"], arrays["coefficient"], arrays["coefficient"])
        return Prepared(
            *(arrays["local"], arrays["normals"], top),
            {n: Weights(*arrays[f"weights_{n}"].tolist()) for n in numbers},
            {
                n: tuple(arrays[f"{k}_{n}"] for k in ("places", "away", "towards"))
                for n in numbers
            },
        )
    except (KeyError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: is no cloud to train on ({error}); delete it") from error
