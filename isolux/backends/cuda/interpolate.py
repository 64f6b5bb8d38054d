"""Interpolation of corner attributes at pixels, on the device."""

from torch import Tensor

from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.arrays import check_indices, index
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]


def forward(attributes: Tensor, corners: Tensor, triangle: Tensor, uv: Tensor) -> Tensor:
    """Raw `interpolate`: u a_0 + v a_1 + (1 - u - v) a_2 at each pixel."""
    check_indices("corners", corners, len(attributes))
    check_indices("triangle", triangle, len(corners))
    pixels, columns = len(triangle), attributes.shape[1]
    out = attributes.new_empty(pixels, columns)
    launch(
        "interpolate", "interpolate_forward", pixels,
        attributes.contiguous(), index(corners), index(triangle), uv.contiguous(), out,
        columns, pixels,
    )  # fmt: skip
    return out


def backward(
    attributes: Tensor,
    corners: Tensor,
    triangle: Tensor,
    uv: Tensor,
    grad: Tensor,
    need_attributes: bool,
    need_uv: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Raw gradients of `interpolate`, to the attributes and to the weights, where needed."""
    pixels, columns = len(triangle), attributes.shape[1]
    f, t, g = index(corners), index(triangle), grad.contiguous()
    to_attributes = to_uv = None
    if need_uv:
        to_uv = uv.new_zeros(pixels, 2)
        launch(
            "interpolate", "interpolate_to_uv", pixels,
            attributes.contiguous(), f, t, g, to_uv, columns, pixels,
        )  # fmt: skip
    if need_attributes:
        to_attributes = _to_attributes([f, t, uv.contiguous(), g], attributes, pixels)
    return to_attributes, to_uv


def _to_attributes(given: list[Tensor], like: Tensor, pixels: int) -> Tensor:
    def bound() -> Tensor:
        sizes = like.new_zeros(pixels)
        launch("interpolate", "interpolate_to_attributes", pixels,
               *given, sizes, None, None, None, like.shape[1], pixels)  # fmt: skip
        return fixed_point.largest(sizes)

    # A face may have one corner three times.
    sums = fixed_point.start(like.new_zeros(like.shape), bound, 3 * pixels)
    launch("interpolate", "interpolate_to_attributes", pixels,
           *given, None, *sums, like.shape[1], pixels)  # fmt: skip
    return fixed_point.finish(*sums)
