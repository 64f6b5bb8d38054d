"""From a batch to named terms: the only file that names what the stages minimise.

Munkberg et al. 2022, "Extracting Triangular 3D Models, Materials, and Lighting From Images",
section 3 and supplement. Letters: v views, p covered pixels. Where several processes share a
batch (`group`), each draws random numbers for all of it and takes its own, and terms are such
that their mean over the processes is the term of the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.shade import image_loss
from isolux.data.views import Batch
from isolux.geometry.regularize import laplacian, normal_consistency, sign_changes
from isolux.optimize.distributed import ALONE, Group, Share
from isolux.optimize.scene import MeshScene, TopologyScene
from isolux.render.draw import Lens, Picture, draw
from isolux.render.gbuffer import Surface
from isolux.render.light import EnvironmentLight

__all__ = ["ImageTerms", "mesh_terms", "topology_terms"]

_WORLD_JITTER = 0.01  # standard deviation, as a fraction of half the grid's extent
_TEXTURE_JITTER = 0.005  # in texture coordinates
_JITTERED = 8  # every so many pixels are asked for their neighbourhood


@dataclass(frozen=True)
class ImageTerms:
    """How pictures are compared, and which optional terms are wanted."""

    kind: Literal["logl1", "logl2", "mse", "smape", "relmse"]
    mask_norm: Literal["mse", "l1"]
    wanted: frozenset[str]  # names of terms with a weight

    def __call__(
        self, backend: Backend, picture: Picture, batch: Batch, background: Tensor
    ) -> dict[str, Tensor]:
        """Colour where the reference has coverage, and coverage everywhere."""
        target = torch.lerp(background, batch.rgb, batch.alpha)
        gap = picture.alpha - batch.alpha
        return {
            "image": image_loss(backend, self.kind, picture.rgb, target, batch.alpha),
            "mask": gap.square().mean() if self.mask_norm == "mse" else gap.abs().mean(),
        }


def topology_terms(
    backend: Backend,
    scene: TopologyScene,
    batch: Batch,
    compare: ImageTerms,
    lens: Lens,
    generator: torch.Generator,
    put_back: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
) -> dict[str, Tensor]:
    """Terms of a step in which the surface is taken out of the distance field anew.

    `put_back` is called where nothing of it is seen; if it gives true, the scene has another
    surface, and that one is looked at instead.
    """
    extracted = scene.geometry.surface(backend)
    surface = Surface.of(backend, extracted.vertices, extracted.faces)
    picture, terms = _drawn(backend, scene, surface, batch, compare, lens, generator, group)
    share = group.share(len(picture.gbuffer.pixels))
    if not share.total and put_back():
        return topology_terms(backend, scene, batch, compare, lens, generator, group=group)
    wanted = compare.wanted
    if "sdf" in wanted:
        terms["sdf"] = sign_changes(extracted.sdf, scene.geometry.edges)
    if "flexicubes_dev" in wanted:
        terms["flexicubes_dev"] = extracted.l_dev.sum() / max(len(extracted.l_dev), 1)
    if "smooth_sdf" in wanted:
        terms["smooth_sdf"] = scene.geometry.roughness(extracted.sdf)
    if "eikonal" in wanted:
        terms["eikonal"] = scene.geometry.eikonal(generator)
    if wanted & {"albedo_smooth", "orm_smooth"}:
        asked = _Asked.of(share)
        here = asked.rows(picture.gbuffer.position).detach()
        low, high = scene.material.bounds.unbind(0)
        shift = asked.normal(here, generator) * (0.5 * _WORLD_JITTER) * (high - low)
        there = scene.material(here + shift)
        at = asked.rows(torch.cat([picture.material.albedo, picture.material.orm], -1))
        terms |= _smoothness(at, there, wanted, picture, asked, group)
    return terms | _shared(scene.light, picture, wanted)


def mesh_terms(
    backend: Backend,
    scene: MeshScene,
    batch: Batch,
    compare: ImageTerms,
    lens: Lens,
    generator: torch.Generator,
    relative: bool,
    group: Group = ALONE,
) -> dict[str, Tensor]:
    """Terms of a step in which the triangles stay and their vertices and textures move."""
    surface = scene.surface()
    picture, terms = _drawn(backend, scene, surface, batch, compare, lens, generator, group)
    share = group.share(len(picture.gbuffer.pixels))
    wanted = compare.wanted
    if "laplacian" in wanted:
        moved = surface.vertices - scene.geometry.initial if relative else surface.vertices
        terms["laplacian"] = laplacian(moved, surface.faces)
    if "normal_consistency" in wanted:
        terms["normal_consistency"] = normal_consistency(surface.vertices, surface.faces)
    if wanted & {"albedo_smooth", "orm_smooth"}:
        gbuffer = picture.gbuffer
        assert gbuffer.texcoord is not None
        asked = _Asked.of(share)
        here = asked.rows(gbuffer.texcoord).detach()
        shift = asked.normal(here, generator) * _TEXTURE_JITTER
        pair = scene.material.sample(torch.cat([here, here + shift]), None)[:, :6]
        at, there = pair[: len(here)], pair[len(here) :]
        terms |= _smoothness(at, there, wanted, picture, asked, group)
    if "normal_smooth" in wanted:
        normal = picture.material.normal
        flat = picture.alpha.new_zeros(0, 2) if normal is None else normal[:, :2]
        terms["normal_smooth"] = flat.square().sum() * group.world / max(share.total, 1)
    return terms | _shared(scene.light, picture, wanted)


def _drawn(
    backend: Backend,
    scene: TopologyScene | MeshScene,
    surface: Surface,
    batch: Batch,
    compare: ImageTerms,
    lens: Lens,
    generator: torch.Generator,
    group: Group,
) -> tuple[Picture, dict[str, Tensor]]:
    """The batch's views of a surface, and the terms that compare them with the pictures."""
    background = _random_background(batch, generator, group)
    light = scene.light.maps(backend)
    picture = draw(backend, surface, scene.material, light, batch.cameras, lens, background)
    return picture, compare(backend, picture, batch, background)


def _random_background(
    batch: Batch, generator: torch.Generator, group: Group
) -> Float[Tensor, "v h w 3"]:
    """One colour a view: a silhouette that is wrong must not match by chance."""
    views = len(batch.rgb) * group.world
    drawn = torch.rand(views, 1, 1, 3, generator=generator, device=batch.rgb.device)
    return group.part(drawn).expand(batch.rgb.shape)


@dataclass(frozen=True)
class _Asked:
    """Which covered pixels are asked for their neighbourhood: every eighth of the batch."""

    first: int  # of this process's pixels
    before: int  # so many belong to processes before this one
    total: int  # of all processes

    @classmethod
    def of(cls, share: Share) -> "_Asked":
        before, total = (-(-count // _JITTERED) for count in (share.before, share.total))
        return cls(-share.before % _JITTERED, before, total)

    def rows(self, values: Float[Tensor, "p c"]) -> Float[Tensor, "q c"]:
        return values[self.first :: _JITTERED]

    def normal(
        self, here: Float[Tensor, "q c"], generator: torch.Generator
    ) -> Float[Tensor, "q c"]:
        shape = self.total, here.shape[1]
        drawn = torch.randn(shape, generator=generator, device=here.device)
        return drawn[self.before : self.before + len(here)]


def _smoothness(
    here: Float[Tensor, "q 6"],
    there: Float[Tensor, "q 6"],
    wanted: frozenset[str],
    picture: Picture,
    asked: _Asked,
    group: Group,
) -> dict[str, Tensor]:
    """Mean change of albedo and ORM over the frame, background counted as smooth."""
    change = (there - here).abs().mean(dim=0)  # [6]; empty gives NaN, hence the branch
    if not len(here):
        change = here.new_zeros(6)
    change = change * (len(here) * group.world / max(asked.total, 1))
    (covered,) = group.means([picture.alpha.detach().mean()])
    terms = {}
    if "albedo_smooth" in wanted:
        terms["albedo_smooth"] = change[:3].mean() * covered
    if "orm_smooth" in wanted:
        terms["orm_smooth"] = change[4:].mean() * covered
    return terms


def _shared(
    light: EnvironmentLight, picture: Picture, wanted: frozenset[str]
) -> dict[str, Tensor]:
    terms = {}
    if "occlusion" in wanted:
        pixels = picture.alpha.numel()
        terms["occlusion"] = picture.material.orm[:, 0].sum() / pixels
    if "light_white" in wanted:
        terms["light_white"] = light.colourfulness()
    return terms
