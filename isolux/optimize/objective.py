"""From a batch to named terms: the only file that names what the stages minimise.

Munkberg et al. 2022, "Extracting Triangular 3D Models, Materials, and Lighting From Images",
section 3 and supplement. Letters: v views, p covered pixels. Where several processes share a
batch (`group`), each draws random numbers for all of it and takes its own, and terms are such
that their mean over the processes is the term of the whole batch. Where a step may not wait for
the number of covered pixels (`all_pixels`), all pixels have rows and those that are not covered
count nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.shade import image_loss
from isolux.data.views import Batch
from isolux.geometry.regularize import laplacian, normal_consistency, sign_changes
from isolux.optimize.distributed import ALONE, Group
from isolux.optimize.randomness import Buffered, numbers
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
    seen = _Seen.of(backend, picture, group)
    if not seen.total and put_back():
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
        asked, here = seen.asked(), seen.rows_asked(picture.gbuffer.position).detach()
        low, high = scene.material.bounds.unbind(0)
        shift = asked.normal(here, generator) * (0.5 * _WORLD_JITTER) * (high - low)
        there = scene.material(here + shift)
        at = seen.rows_asked(torch.cat([picture.material.albedo, picture.material.orm], -1))
        terms |= _smoothness(at, there, wanted, picture, asked, group)
    return terms | _shared(scene.light, picture, seen, wanted)


def mesh_terms(
    backend: Backend,
    scene: MeshScene,
    batch: Batch,
    compare: ImageTerms,
    lens: Lens,
    generator: torch.Generator | Buffered,
    relative: bool,
    group: Group = ALONE,
    all_pixels: bool = False,
) -> dict[str, Tensor]:
    """Terms of a step in which the triangles stay and their vertices and textures move.

    With `all_pixels`, for one process, all sizes are those of the batch and nothing is waited
    for; the terms are the same but for the rounding of sums.
    """
    surface = scene.surface()
    picture, terms = _drawn(
        backend, scene, surface, batch, compare, lens, generator, group, all_pixels
    )
    seen = _Seen.of(backend, picture, group)
    wanted = compare.wanted
    if "laplacian" in wanted:
        moved = surface.vertices - scene.geometry.initial if relative else surface.vertices
        terms["laplacian"] = laplacian(moved, surface.faces)
    if "normal_consistency" in wanted:
        terms["normal_consistency"] = normal_consistency(surface.vertices, surface.faces)
    if wanted & {"albedo_smooth", "orm_smooth"}:
        gbuffer = picture.gbuffer
        assert gbuffer.texcoord is not None
        asked, here = seen.asked(), seen.rows_asked(gbuffer.texcoord).detach()
        shift = asked.normal(here, generator) * _TEXTURE_JITTER
        pair = scene.material.sample(torch.cat([here, here + shift]), None)[:, :6]
        at, there = pair[: len(here)], pair[len(here) :]
        terms |= _smoothness(at, there, wanted, picture, asked, group)
    if "normal_smooth" in wanted:
        normal = picture.material.normal
        flat = picture.alpha.new_zeros(0, 2) if normal is None else seen.only(normal[:, :2])
        terms["normal_smooth"] = seen.part_of(flat.square().sum() * group.world)
    return terms | _shared(scene.light, picture, seen, wanted)


def _drawn(
    backend: Backend,
    scene: TopologyScene | MeshScene,
    surface: Surface,
    batch: Batch,
    compare: ImageTerms,
    lens: Lens,
    generator: torch.Generator | Buffered,
    group: Group,
    all_pixels: bool = False,
) -> tuple[Picture, dict[str, Tensor]]:
    """The batch's views of a surface, and the terms that compare them with the pictures."""
    background = _random_background(batch, generator, group)
    light = scene.light.maps(backend)
    picture = draw(
        backend, surface, scene.material, light, batch.cameras, lens, background, all_pixels
    )
    return picture, compare(backend, picture, batch, background)


def _random_background(
    batch: Batch, generator: torch.Generator | Buffered, group: Group
) -> Float[Tensor, "v h w 3"]:
    """One colour a view: a silhouette that is wrong must not match by chance."""
    views = len(batch.rgb) * group.world
    colours = numbers(torch.rand, (views, 1, 1, 3), generator, batch.rgb.device)
    return group.part(colours).expand(batch.rgb.shape)


@dataclass(frozen=True)
class _Seen:
    """Which rows of a G-buffer are covered pixels, and their place among all processes'."""

    covered: Bool[Tensor, " p"] | None  # None: all rows
    before: int  # so many belong to processes before this one
    total: int | Tensor  # of all processes; a tensor where it is not waited for
    most: int | None  # that there could be, if numbers are drawn for all of them

    @classmethod
    def of(cls, backend: Backend, picture: Picture, group: Group) -> "_Seen":
        covered = picture.gbuffer.covered
        share = group.share(len(picture.gbuffer.pixels))
        total = share.total if covered is None else covered.sum()
        # A graph does not know how many there are: its backend draws alike without a graph.
        fixed = covered is not None or backend.name == "cuda"
        most = picture.alpha.numel() * group.world if fixed else None
        return cls(covered, share.before, total, most)

    def asked(self) -> "_Seen":
        """Every eighth one of the batch, which is asked for its neighbourhood."""
        covered = None if self.covered is None else self.covered[::_JITTERED]
        most = None if self.most is None else -(-self.most // _JITTERED)
        return _Seen(covered, -(-self.before // _JITTERED), -(-self.total // _JITTERED), most)

    def rows_asked(self, values: Float[Tensor, "p c"]) -> Float[Tensor, "q c"]:
        return values[-self.before % _JITTERED :: _JITTERED]

    def only(self, values: Float[Tensor, "p c"]) -> Float[Tensor, "p c"]:
        """Zero in the rows that are not covered."""
        if self.covered is None:
            return values
        return values.masked_fill(~self.covered[:, None], 0.0)

    def normal(
        self, like: Float[Tensor, "p c"], generator: torch.Generator | Buffered
    ) -> Float[Tensor, "p c"]:
        """Random numbers, each row's the same however pixels are shared out."""
        rows = self.total if self.most is None else self.most
        assert isinstance(rows, int)
        drawn = numbers(torch.randn, (rows, like.shape[1]), generator, like.device)
        return drawn[self.before : self.before + len(like)]

    def part_of(self, total: Tensor) -> Tensor:
        """A sum over the rows as part of the mean over all; zero where there are none."""
        count = self.total
        return total / (max(count, 1) if isinstance(count, int) else count.clamp_min(1))


def _smoothness(
    here: Float[Tensor, "q 6"],
    there: Float[Tensor, "q 6"],
    wanted: frozenset[str],
    picture: Picture,
    asked: _Seen,
    group: Group,
) -> dict[str, Tensor]:
    """Mean change of albedo and ORM over the frame, background counted as smooth."""
    change = asked.part_of(asked.only((there - here).abs()).sum(dim=0)) * group.world  # [6]
    (covered,) = group.means([picture.alpha.detach().mean()])
    terms = {}
    if "albedo_smooth" in wanted:
        terms["albedo_smooth"] = change[:3].mean() * covered
    if "orm_smooth" in wanted:
        terms["orm_smooth"] = change[4:].mean() * covered
    return terms


def _shared(
    light: EnvironmentLight, picture: Picture, seen: _Seen, wanted: frozenset[str]
) -> dict[str, Tensor]:
    terms = {}
    if "occlusion" in wanted:
        pixels = picture.alpha.numel()
        terms["occlusion"] = seen.only(picture.material.orm)[:, 0].sum() / pixels
    if "light_white" in wanted:
        terms["light_white"] = light.colourfulness()
    return terms
