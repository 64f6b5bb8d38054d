"""Between linear light and sRGB, by the exact piecewise curve of IEC 61966-2-1.

Everything inside is linear; only files and the screen are sRGB.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["linear_from_srgb", "srgb_from_linear"]


def linear_from_srgb(srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Linear light of sRGB values; [0, 1] goes to [0, 1].

    Values outside are continued by the same curve: the straight part below zero, the power
    above one. Gradients are finite everywhere. Empty tensors pass.
    """
    # The branch that is not taken gets a harmless value: its gradient must not be NaN.
    power = ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, power)


def srgb_from_linear(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sRGB values of linear light; the inverse of `linear_from_srgb`.

    Values outside [0, 1] are continued, not clipped: clip before writing 8-bit files. The
    steepest gradient is 12.92, at zero. Empty tensors pass.
    """
    power = 1.055 * linear.clamp_min(0.0031308) ** (1.0 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, power)
