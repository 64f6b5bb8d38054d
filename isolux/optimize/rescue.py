"""A surface that has vanished in the topology stage is put back.

A distance field of one sign everywhere has no triangles, and so no gradient that could bring
them back; nor has a surface that no view sees. What is done about it depends on the scene and
on how often it was done before, which checkpoints hold: a resumed run does the same.
"""

import logging

import torch

from isolux.data.views import Views
from isolux.optimize.distributed import ALONE, Group
from isolux.optimize.results import spread, surface_of
from isolux.optimize.scene import TopologyScene
from isolux.optimize.stages import Recipe
from isolux.render.draw import Lens
from isolux.render.gbuffer import draw_surface

__all__ = ["Rescue"]

_MOST = 3  # times a run
_LOOKED = 64  # views looked through before a surface counts as out of sight
_log = logging.getLogger(__name__)


class Rescue:
    """Starts the surface again where it is empty or out of sight, a few times a run.

    The first time from the run's own start, then, or if there is nothing to see of that, from
    a sphere. Material and light stay as they are.

    Args:
        recipe: how surfaces are made.
        views: that the surface should show in.
        lens: their clip planes.
        done: how often it was put back before.
        group: of processes that train it; the first one looks.
    """

    def __init__(
        self,
        recipe: Recipe,
        views: Views,
        lens: Lens,
        done: int = 0,
        group: Group = ALONE,
    ) -> None:
        self._recipe = recipe
        self._views = views
        self._lens = lens
        self._group = group
        self.done = done

    def __call__(
        self,
        scene: TopologyScene,
        resolution: int,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> bool:
        """Look at the surface, and put it back if it is gone; says whether it was.

        Args:
            scene: its geometry is given other values, in place.
            resolution: of its lattice.
            optimizer: forgets what it knows of the group `geometry`.
        """
        if self.done >= _MOST or (reason := self._gone(scene)) is None:
            return False
        self.done += 1
        shape = "the run's own start"
        if self.done == 1:
            scene.geometry.load_state_dict(self._recipe.field(resolution).state_dict())
        if self.done > 1 or self._gone(scene) is not None:
            shape = "a sphere"
            scene.geometry.load_state_dict(self._recipe.sphere(resolution).state_dict())
        if optimizer is not None:
            _forget_geometry(optimizer)
        _log.warning(
            "the surface is %s; it begins again as %s (%d of at most %d times). If that does "
            "not last: check masks, cameras and geometry.init, or lower the learning rates",
            reason, shape, self.done, _MOST,
        )  # fmt: skip
        return True

    def _gone(self, scene: TopologyScene) -> str | None:
        """What is wrong with the surface; none if there is something to see of it."""
        return self._group.first(lambda: self._looked(scene))

    @torch.no_grad()
    def _looked(self, scene: TopologyScene) -> str | None:
        backend, lens = self._recipe.backend, self._lens
        surface = surface_of(backend, scene)
        if not len(surface.faces):
            return "empty: the distance field has one sign everywhere"
        cameras = self._views.cameras.to(backend.device)
        for index in spread(len(self._views), _LOOKED):
            drawn = draw_surface(backend, surface, cameras[[index]], lens.near, lens.far)
            if len(drawn.pixels):
                return None
        return "out of sight of all views"


def _forget_geometry(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        if group["name"] == "geometry":
            for parameter in group["params"]:
                optimizer.state.pop(parameter, None)
