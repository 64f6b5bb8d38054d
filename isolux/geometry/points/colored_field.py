"""What fields of points have beside values: colours, and grids of values.

Letters: n points.
"""

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

    @torch.no_grad()
    def sample_grid(self, resolution: int = 128) -> Float[Tensor, "x y z"]:
        """Values at the middles of the cells that `bounds` is cut into, float64.

        Args:
            resolution: cells along the longest side; they are cubes, or nearly.

        Raises:
            ValueError: a resolution below one.
        """
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}")
        low, high = self.bounds.double()
        size = float((high - low).max()) / resolution
        counts = ((high - low) / size).round().long().clamp_min(1).tolist()
        axes = [
            low[i] + (high[i] - low[i]) / n * (torch.arange(n, dtype=torch.float64) + 0.5)
            for i, n in enumerate(counts)
        ]
        # A slice at a time: grids are large.
        planes = [torch.cartesian_prod(at[None], axes[1], axes[2]) for at in axes[0]]
        values = torch.stack([self.value(plane) for plane in planes])
        return values.reshape(counts)
