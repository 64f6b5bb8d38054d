"""What nvidia-smi says of the device that torch calls its first."""

import subprocess

import torch

__all__ = ["asked"]


def asked(what: str) -> str | None:
    """The answer to one query, e.g. "memory.used" [MiB]; none where there is none.

    Args:
        what: as `nvidia-smi --help-query-gpu` lists it.
    """
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            [*command, "-i", _name()], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (answer.stdout.splitlines() or [""])[0].strip() or None


def _name() -> str:
    """Its own, as numbers are torch's: CUDA_VISIBLE_DEVICES changes them."""
    if not torch.cuda.is_available():
        return "0"
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)  # not in older torch
    return "0" if uuid is None else f"GPU-{uuid}"
