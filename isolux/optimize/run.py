"""A finished run, as Python sees it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.confs.read import read_conf
from isolux.confs.schema import RunConf
from isolux.geometry.cameras import Cameras
from isolux.geometry.mesh import Mesh
from isolux.optimize.build import select_backend
from isolux.optimize.checkpoint import latest
from isolux.optimize.drive import scene_state
from isolux.optimize.files import RunFolder
from isolux.optimize.open import open_scene
from isolux.optimize.scene import MeshScene
from isolux.optimize.stages import restored_mesh_scene
from isolux.render.draw import Lens, Picture, draw
from isolux.render.light import latlong_from_cube
from isolux.render.material import Limits

__all__ = ["Run", "limits_of", "load"]


@dataclass(frozen=True)
class Run:
    """What a run has made, and where it lies."""

    folder: Path
    conf: RunConf
    backend: Backend
    scene: MeshScene
    metrics: dict[str, Any]  # metrics.json; empty when it was not evaluated

    @property
    def mesh(self) -> Mesh:
        """The mesh with its charts, world space."""
        return self.scene.geometry.mesh().to("cpu")

    @property
    def light(self) -> Float[Tensor, "h w 3"]:
        """The probe as a lat-long map of linear radiance."""
        size = self.scene.light.base.shape[1]
        with torch.no_grad():
            base = self.scene.light.base
            return latlong_from_cube(self.backend, [base], 2 * size, 4 * size).cpu()

    @property
    def cameras(self) -> Cameras:
        """The cameras of the training views."""
        return open_scene(self.conf.data, self.backend, self.conf.seed).train.cameras

    @property
    def lens(self) -> Lens:
        """The clip planes that the run was trained with."""
        return Lens(self.conf.data.near, self.conf.data.far, self.conf.light.camera_space)

    @torch.no_grad()
    def render(
        self, cameras: Cameras, background: Float[Tensor, "v h w 3"] | None = None
    ) -> Picture:
        """Pictures of the result, linear, over a background (black without one).

        They stay on the device of the run's backend.
        """
        cameras = cameras.to(self.backend.device)
        if background is not None:
            background = background.to(self.backend.device)
        maps = self.scene.light.maps(self.backend)
        return draw(
            self.backend,
            self.scene.surface(),
            self.scene.material,
            maps,
            cameras,
            self.lens,
            background,
        )


def load(folder: Path) -> Run:
    """The run that a folder holds, from its last checkpoint.

    Raises:
        FileNotFoundError: no such folder, or nothing in it to load.
        ValueError: the run has not reached its mesh stage yet.
    """
    place = RunFolder(Path(folder))
    if not place.conf.exists():
        raise FileNotFoundError(f"{folder}: holds no run (conf.json is missing)")
    conf = read_conf(place.conf).model_copy(update={"out": Path(folder)})
    checkpoint = latest(place.checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(f"{folder}: holds no checkpoint that can be read")
    if checkpoint.stage != "mesh":
        raise ValueError(
            f"{folder}: the run is still in its {checkpoint.stage} stage; "
            "finish it with --resume"
        )
    backend = select_backend(conf, elsewhere=True)
    scene = restored_mesh_scene(
        backend,
        scene_state(checkpoint),
        limits_of(conf),
        conf.material.normal_map,
        solid_angles=conf.light.solid_angles,
    )
    return Run(place.path, conf, backend, scene, place.read_json(place.metrics))


def limits_of(conf: RunConf) -> Limits:
    """The ranges of the material's channels."""
    material = conf.material
    return Limits(material.albedo_min, material.albedo_max, material.orm_min, material.orm_max)
