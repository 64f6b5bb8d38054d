"""The state of a run in a file: named tensors and a small header, no code.

A checkpoint is one safetensors file `NUMBER_STAGE_STEP.safetensors`; the number counts up,
so that names sort by age. The header stands in the file's metadata as JSON. There is no
state of random generators in it: all randomness is derived from the seed and the step.
"""

import errno
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from isolux.render.files import replacing

__all__ = [
    "Checkpoint",
    "latest",
    "load_checkpoint",
    "load_optimizer_tensors",
    "optimizer_tensors",
    "save_checkpoint",
]

_FORMAT = "isolux-checkpoint-1"
_NAMES = "[!.]*.safetensors"  # unfinished ones begin with a dot
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands."""

    stage: str
    step: int  # steps of the stage that are done
    seconds: float  # that the run has taken so far, over all its sessions
    tensors: Mapping[str, Tensor]
    extra: Mapping[str, Any] = field(default_factory=dict)  # JSON


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Writes a checkpoint, then removes all but the newest `keep`.

    Unreadable ones do not count, so that a good one is never given up for a broken one.

    Raises:
        OSError: one line, e.g. when the disk is full; the earlier checkpoints are kept.
    """
    older = sorted(folder.glob(_NAMES))
    number = 1 + max((_number(path) for path in older), default=0)
    path = folder / f"{number:06d}_{checkpoint.stage}_{checkpoint.step:06d}.safetensors"
    tensors = _separate(checkpoint.tensors)
    header = {
        "stage": checkpoint.stage,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "extra": dict(checkpoint.extra),
        "crc32": _checksum(tensors),
    }
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # the library makes its files readable by the owner only
        try:
            save_file(tensors, partial, {"format": _FORMAT, "header": json.dumps(header)})
        except SafetensorError as error:  # its text holds the system's reason
            raise _system_error(error) from error
        partial.chmod(mode)
    newest_first = [path, *reversed(older)]
    for stale in [p for p in newest_first if p == path or _opens(p)][keep:]:
        stale.unlink(missing_ok=True)
    for broken in [p for p in older if not _opens(p)]:
        broken.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; never runs code.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line, if the file is truncated, damaged or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Cloned: the file stays mapped otherwise, and may be replaced under it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint ({error})") from None
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: is no checkpoint of isolux (format {_FORMAT} expected)")
    header = json.loads(metadata["header"])
    if header["crc32"] != _checksum(tensors):
        raise ValueError(f"{path}: is damaged (the checksum of its tensors is another)")
    return Checkpoint(
        header["stage"], header["step"], header["seconds"], tensors, header["extra"]
    )


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read; none if there is none.

    One that cannot be read is passed over with a warning in the log.
    """
    for path in sorted(folder.glob(_NAMES), reverse=True):
        try:
            return load_checkpoint(path)
        except ValueError as error:
            _log.warning("%s; taking the one before it", error)
    return None


def _number(path: Path) -> int:
    number = path.name.partition("_")[0]
    return int(number) if number.isdigit() else 0


def _opens(path: Path) -> bool:
    """Whether the file is whole as far as its header and its length tell."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the processor that share no memory, which the format asks for."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if (place := tensor.untyped_storage().data_ptr()) in seen:
            tensor = tensor.clone()
        seen.add(place)
        result[name] = tensor
    return result


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 over names, types, shapes and bytes."""
    value = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        if tensor.numel():
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return value


def _system_error(error: SafetensorError) -> OSError:
    """The error of the system inside one of the library, whose text ends in `(os error N)`."""
    number = str(error).rpartition("os error ")[2].rstrip(")\"' ")
    code = int(number) if number.isdigit() else errno.EIO
    return OSError(code, os.strerror(code))


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, prefix: str = "optim"
) -> dict[str, Tensor]:
    """The state of an optimiser as `PREFIX.GROUP.PARAMETER.KEY`, and each group's rate.

    GROUP is the group's `name` if it has one, else its place; PARAMETER the place within the
    group. Parameters that had no gradient yet have no state. The tensors are the optimiser's
    own, not copies.

    Raises:
        ValueError: two groups of one name, or a state that is no tensor.
    """
    result: dict[str, Tensor] = {}
    for place, group, parameter, name in _slots(optimizer, prefix):
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name}.{key}: only tensors can be kept, got {type(value)}")
            result[f"{name}.{key}"] = value
        if place == 0:
            rate = torch.as_tensor(group["lr"], dtype=torch.float64)
            result[f"{name.rpartition('.')[0]}.lr"] = rate
    return result


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optim"
) -> None:
    """Puts back what `optimizer_tensors` gave, bit for bit, into an optimiser like that one.

    Tensors with other prefixes are left alone, so the whole of a checkpoint can be passed.

    Raises:
        ValueError: naming a tensor of another shape, or those for which there is no place.
    """
    left = {name for name in tensors if name.startswith(f"{prefix}.")}
    for place, group, parameter, name in _slots(optimizer, prefix):
        if place == 0 and (rate := f"{name.rpartition('.')[0]}.lr") in left:
            left.discard(rate)
            group["lr"] = tensors[rate].item()
        mine = [key for key in left if key.startswith(f"{name}.")]
        left.difference_update(mine)
        optimizer.state.pop(parameter, None)
        on_device = bool(group.get("fused") or group.get("capturable"))
        for key in sorted(mine):
            value, short = tensors[key], key.rpartition(".")[2]
            if value.dim() and value.shape != parameter.shape:
                raise ValueError(
                    f"{key}: shape {tuple(value.shape)} does not fit the parameter's "
                    f"{tuple(parameter.shape)}"
                )
            # torch keeps the step count on the processor unless its kernel reads it.
            stays = short == "step" and not on_device
            device = torch.device("cpu") if stays else parameter.device
            optimizer.state[parameter][short] = value.to(device, copy=True)
    if left:
        raise ValueError(f"the optimiser has no place for: {sorted(left)[:4]}")


def _slots(
    optimizer: torch.optim.Optimizer, prefix: str
) -> Iterator[tuple[int, dict[str, Any], Tensor, str]]:
    """Every parameter: its place in its group, the group, itself, and its name in files."""
    names = [str(group.get("name", i)) for i, group in enumerate(optimizer.param_groups)]
    if len(set(names)) != len(names) or any("." in name for name in names):
        raise ValueError(f"groups of an optimiser need different names without dots: {names}")
    for group_name, group in zip(names, optimizer.param_groups, strict=True):
        for place, parameter in enumerate(group["params"]):
            yield place, group, parameter, f"{prefix}.{group_name}.{place}"
