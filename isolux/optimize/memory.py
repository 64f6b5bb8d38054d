"""What is said when memory does not suffice: what was asked for, what takes it, what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from isolux.confs.schema import RunConf

__all__ = ["FULL", "told", "told_when_full", "told_when_measuring"]

FULL = (MemoryError, torch.cuda.OutOfMemoryError)

# Bytes, rounded, as measured on the processor; only which of the three is the largest counts.
_PIXEL = 600  # of a step's pictures
_VERTEX = {"tets": 300, "flexicubes": 650}  # of a lattice, with gradients and Adam's moments
_TEXEL = 200  # likewise, all maps and their mips
_OWN_SIZE = (800, 800)  # taken for pictures that keep the files' size: NeRF-synthetic's

# Torch says the first of the memory of a process, CUDA's libraries the others.
_SIGNS = re.compile(r"can't allocate memory|CUDA error: out of memory|STATUS_ALLOC_FAILED")
_AMOUNT = r"([\d.]+ (?:bytes|[KMGTPE]iB))"


@contextmanager
def told_when_full(conf: RunConf, checkpoints: Path) -> Iterator[None]:
    """Turns errors of full memory into one that says what to do.

    Raises:
        MemoryError: with the line of `told`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_full(error):
            raise
        names = [path.name for path in checkpoints.glob("[!.]*.safetensors")]
        raise MemoryError(told(error, conf, max(names, default=""))) from error


@contextmanager
def told_when_measuring(conf: RunConf, settings: Path) -> Iterator[None]:
    """As `told_when_full`, for a run that is done: what to change in its `settings`.

    Raises:
        MemoryError: one line.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_full(error):
            raise
        text = (
            f"{_what(str(error))}; measuring draws whole pictures, data.size={_shown(conf)}, "
            f"with textures of {conf.material.texture_size} texels: end what else holds "
            f"memory, or lower data.size (or set backend=cpu) in {settings}"
        )
        raise MemoryError(text) from error


def _is_full(error: BaseException) -> bool:
    return isinstance(error, FULL) or bool(_SIGNS.search(str(error)))


def told(error: BaseException, conf: RunConf, checkpoint: str) -> str:
    """One line.

    Args:
        error: of torch, of numpy, or of our own kernels.
        conf: the settings of the run.
        checkpoint: name of the last one; empty if there is none.
    """
    stage = checkpoint.split("_")[1] if checkpoint else "topology"
    dominant, *others = _by_size(conf, stage)
    lower = " or ".join(name for name, value in dominant if value != 1)
    if not checkpoint:
        after = "; no checkpoint was written yet"
    else:
        after = "; the last checkpoint is kept, and --resume goes on from it"
        if not _may_change(lower, stage):
            after += f", but not with another {lower}: for that train anew, out=..."
    then = _list([pair for group in others for pair in group])
    return (
        f"{_what(str(error))}; most of it goes to {_list(dominant)} (then {then}): "
        f"lower {lower}{after}"
    )


def _what(said: str) -> str:
    """How much was asked for, and how much there is, as far as the error or the device say."""
    device = "CUDA" in said
    parts = []
    if asked := re.search(rf"allocate {_AMOUNT}", said):
        parts.append(f"{_rounded(asked[1])} were asked for")
    elif (where := said.partition(": out of memory")[0]) != said and where != "CUDA error":
        parts.append(where)
    whole = re.search(rf"total capaci?ty of {_AMOUNT} of which {_AMOUNT} is free", said)
    if whole:
        parts.append(f"{whole[2]} of the device's {whole[1]} are free")
    elif device and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):
            free, total = torch.cuda.mem_get_info()
            parts.append(f"{_size(free)} of the device's {_size(total)} are free")
    return ": ".join(
        filter(None, [f"out of {'GPU ' if device else ''}memory", ", ".join(parts)])
    )


def _rounded(amount: str) -> str:
    number, unit = amount.split()
    return _size(int(number)) if unit == "bytes" and number.isdigit() else amount


def _size(count: float) -> str:
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = next((k for k in range(5) if count < 1024 ** (k + 1)), 4)
    return f"{count / 1024**power:.4g} {units[power]}"


def _by_size(conf: RunConf, stage: str) -> list[list[tuple[str, object]]]:
    """The settings that take memory, with their values; the largest first."""
    size = conf.data.size or _OWN_SIZE
    height, width = (size, size) if isinstance(size, int) else size
    pictures = [("optimize.batch", conf.optimize.batch), ("data.size", _shown(conf))]
    groups: list[tuple[float, list[tuple[str, object]]]] = [
        (_PIXEL * conf.optimize.batch * height * width, pictures),
        (
            _TEXEL * conf.material.texture_size**2,
            [("material.texture_size", conf.material.texture_size)],
        ),
    ]
    if stage == "topology" and conf.geometry.base_mesh is None:
        vertices = (conf.geometry.resolution + 1) ** 3
        settings: list[tuple[str, object]] = [("geometry.resolution", conf.geometry.resolution)]
        groups.append((_VERTEX[conf.geometry.extractor] * vertices, settings))
    return [group for _, group in sorted(groups, key=lambda item: item[0], reverse=True)]


def _shown(conf: RunConf) -> str:
    """The size of pictures, as typed."""
    return (
        "none" if conf.data.size is None else str(conf.data.size).strip("()").replace(" ", "")
    )


def _may_change(setting: str, stage: str) -> bool:
    """Whether a checkpoint fits a run with another value."""
    if setting == "material.texture_size":
        return stage == "topology"
    return setting != "geometry.resolution"


def _list(pairs: list[tuple[str, object]]) -> str:
    return " and ".join(f"{name}={value}" for name, value in pairs)
