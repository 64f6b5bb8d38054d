"""Shapes and backends that the tests of geometry share."""

import pytest
import torch

from isolux import backends
from isolux.backends import Backend
from isolux.geometry.fields import SphereField
from isolux.geometry.mesh import Mesh


@pytest.fixture
def backend() -> Backend:
    return backends.cpu()


@pytest.fixture
def sphere() -> Mesh:
    """Closed, about 3000 faces, radius 1."""
    return SphereField(torch.zeros(3), 1.0).extract_mesh(20)


@pytest.fixture
def square() -> Mesh:
    """Two triangles over [0, 1]^2 that face +z, with v downwards and u along +x."""
    return Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32),
        torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32),
    )
