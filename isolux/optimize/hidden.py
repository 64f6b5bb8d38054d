"""Parts of a surface that no view sees are left out when charts are made.

No picture says anything of them: they are what a distance field happened to hold inside the
body. They would take texture, and count as errors of the surface.
"""

import logging

import torch

from isolux.backends import Backend
from isolux.data.views import Views
from isolux.geometry.mesh import Mesh
from isolux.geometry.statistics import component_of_face, remove_unreferenced
from isolux.optimize.results import spread
from isolux.render.draw import Lens
from isolux.render.gbuffer import Surface, draw_surface

__all__ = ["without_hidden"]

_LOOKED = 64  # views
_log = logging.getLogger(__name__)


@torch.no_grad()
def without_hidden(mesh: Mesh, views: Views, lens: Lens, backend: Backend) -> Mesh:
    """The mesh without its connected parts of which no view shows a pixel.

    Args:
        mesh: without texture coordinates, on the processor.
        views: of which at most 64 are looked through, evenly spread.
        lens: their clip planes.
        backend: draws.

    Returns:
        The mesh itself where every part is seen, or none is.
    """
    if not len(mesh.faces):
        return mesh
    there, cameras = mesh.to(backend.device), views.cameras.to(backend.device)
    surface = Surface.of(backend, there.vertices, there.faces)
    seen = torch.zeros(len(mesh.faces), dtype=torch.bool)
    for index in spread(len(views), _LOOKED):
        drawn = draw_surface(backend, surface, cameras[[index]], lens.near, lens.far)
        seen[drawn.triangle.long().cpu()] = True
    part = component_of_face(mesh.faces).long()
    shown = torch.zeros(int(part.max()) + 1, dtype=torch.bool)
    shown[part[seen]] = True
    if bool(shown.all()) or not bool(shown.any()):
        return mesh
    kept = shown[part]
    _log.info(
        "%d of %d parts are seen by no view and left out (%d of %d triangles)",
        len(shown) - int(shown.sum()), len(shown), int((~kept).sum()), len(kept),
    )  # fmt: skip
    return remove_unreferenced(Mesh(mesh.vertices, mesh.faces[kept]))
