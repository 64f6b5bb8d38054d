"""kaolin.ops.conversions as its documentation describes FlexiCubes, for the tests.

The surface is the reference's, in another order: vertices from the last to the first, and
faces turned by one corner. Nothing may follow from the order.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isolux import backends
from isolux.backends.extract import flexicubes
from isolux.geometry.lattice import cube_lattice


class FlexiCubes:
    def __init__(self, device: Any = "cuda") -> None:
        self.device = torch.device(device)

    def __call__(
        self,
        voxelgrid_vertices: Tensor,
        scalar_field: Tensor,
        cube_idx: Tensor,
        resolution: int | Sequence[int],
        qef_reg_scale: float = 1e-3,
        weight_scale: float = 0.99,
        beta: Tensor | None = None,
        alpha: Tensor | None = None,
        gamma_f: Tensor | None = None,
        training: bool = False,
        output_tetmesh: bool = False,
        grad_func: Any = None,
        voxelgrid_features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert weight_scale == 0.99
        assert not output_tetmesh
        assert grad_func is None
        assert cube_idx.dtype == torch.long
        assert voxelgrid_vertices.dtype == scalar_field.dtype == torch.float32
        assert isinstance(resolution, list)
        lattice = cube_lattice((resolution[0], resolution[1], resolution[2]))
        assert torch.equal(lattice.cubes.long(), cube_idx)
        vertices, faces, deviation = flexicubes(
            backends.reference(),
            lattice,
            voxelgrid_vertices,
            scalar_field,
            alpha,
            beta,
            gamma_f,
            training,
        )
        if not len(vertices):
            return torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long), torch.zeros(0)
        turned = len(vertices) - 1 - faces.long().roll(1, dims=1)
        return vertices.flip(0), turned.flip(0), deviation.flip(0)
