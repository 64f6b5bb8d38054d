"""The next smaller mip of a texture, on the device."""

from torch import Tensor

from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]


def forward(texture: Tensor) -> Tensor:
    """Raw `halve`: [h, w, c] to half its extents, rounded down, at least 1."""
    height, width, channels = texture.shape
    out = texture.new_empty(max(height // 2, 1), max(width // 2, 1), channels)
    launch(
        "mips", "mips_forward", out.numel(),
        texture.contiguous(), out, height, width, channels, out.numel(),
    )  # fmt: skip
    return out


def backward(grad: Tensor, into: Tensor) -> None:
    """Add the adjoint of `forward` at `grad` to `into`, shaped as the larger texture."""
    height, width, channels = into.shape
    launch(
        "mips", "mips_backward", into.numel(),
        grad.contiguous(), into, height, width, channels, into.numel(),
    )  # fmt: skip
