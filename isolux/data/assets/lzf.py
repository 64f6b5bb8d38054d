"""LZF, the compression of binary PCD files (Lehmann's liblzf format)."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = ["decompress"]


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes that `data` stands for.

    Raises:
        ValueError: damaged, or of another size.
    """
    # Three bytes make 264 at most: a size beyond is a lie, and asks for memory.
    if size > 88 * len(data) + 264:
        raise ValueError(f"{len(data)} bytes of LZF cannot hold {size}")
    result = np.empty(size, np.uint8)
    made = _decompress(np.frombuffer(data, np.uint8), result)
    if made != size:
        what = "damaged LZF" if made < 0 else f"the LZF data holds {made} bytes"
        raise ValueError(f"{what}, expected {size}")
    return result.tobytes()


@kernel
def _decompress(source: Any, result: Any) -> int:
    """Returns the number of bytes made, or -1 where the stream is not sound.

    A control byte under 32 begins a run of that many bytes plus one. Others go back: three
    bits of length (7: one more byte follows), thirteen of distance.
    """
    at, made = 0, 0
    while at < len(source):
        control = int(source[at])
        at += 1
        if control < 32:
            length = control + 1
            if at + length > len(source) or made + length > len(result):
                return -1
            for i in range(length):
                result[made + i] = source[at + i]
            at += length
            made += length
            continue
        length = control >> 5
        if length == 7:
            if at >= len(source):
                return -1
            length += int(source[at])
            at += 1
        length += 2
        if at >= len(source):
            return -1
        back = made - ((control & 31) << 8) - int(source[at]) - 1
        at += 1
        if back < 0 or made + length > len(result):
            return -1
        for i in range(length):  # byte by byte: the two ranges may overlap
            result[made + i] = result[back + i]
        made += length
    return made
