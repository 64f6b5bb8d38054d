"""Fields of points that know their points' colours. Letters: n points."""

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.fields import Field
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.colors import ColorField

__all__ = ["ColoredField"]


class ColoredField(Field):
    """A field with colours beside it, once they are given."""

    _colors: ColorField | None = None

    def set_colors(self, xyz: Float[Tensor, "n 3"], colors: Float[Tensor, "n 3"]) -> None:
        """Take the colours, linear in [0, 1], of these points of the world.

        Raises:
            ValueError: no points, or ones that are not finite.
        """
        self._colors = ColorField(PointCloud(xyz.double(), colors=colors.float()))

    def colors_at(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Colours at points of the world, e.g. at a mesh's vertices; linear, float32.

        Raises:
            ValueError: when the field was given none.
        """
        if self._colors is None:
            raise ValueError("the field has no colours: give them by set_colors")
        return self._colors(points)

    @torch.no_grad()
    def evaluate(
        self, points: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Value and gradient at points of the world."""
        return self.value(points), self.gradient(points)
