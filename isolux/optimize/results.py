"""Pictures of a scene beside their references, and what they measure.

Letters: v views.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from isolux.backends import Backend
from isolux.data.views import Batch, Views
from isolux.optimize.comparison import ComparedView
from isolux.optimize.scene import MeshScene, TopologyScene
from isolux.render.draw import Lens, photograph
from isolux.render.gbuffer import Surface, draw_surface
from isolux.render.metrics import composite, image_metrics

__all__ = ["beside", "compared", "spread", "surface_of", "view_metrics"]


def surface_of(backend: Backend, scene: TopologyScene | MeshScene) -> Surface:
    """The surface of a scene of either stage."""
    if isinstance(scene, MeshScene):
        return scene.surface()
    extracted = scene.geometry.surface(backend, training=False)
    return Surface.of(backend, extracted.vertices, extracted.faces)


def spread(count: int, most: int) -> list[int]:
    """At most so many of `count` numbers, evenly spread, the first and the last among them."""
    chosen = min(count, most)
    return [round(i * (count - 1) / max(chosen - 1, 1)) for i in range(chosen)]


@torch.no_grad()
def beside(
    backend: Backend,
    scene: TopologyScene | MeshScene,
    surface: Surface,
    batch: Batch,
    lens: Lens,
    background: str,
) -> tuple[Float[Tensor, "v h w 3"], Float[Tensor, "v h w 1"], Float[Tensor, "v h w 3"]]:
    """Views over a background, their coverage, and the references over the same."""
    maps = scene.light.maps(backend)
    rgb, alpha = photograph(backend, surface, scene.material, maps, batch.cameras, lens)
    behind = composite(torch.zeros_like(batch.rgb), torch.zeros_like(batch.alpha), background)
    return rgb + (1.0 - alpha) * behind, alpha, composite(batch.rgb, batch.alpha, background)


@torch.no_grad()
def view_metrics(
    backend: Backend,
    scene: TopologyScene | MeshScene,
    views: Views,
    chosen: Sequence[int],
    lens: Lens,
    background: str,
) -> dict[str, Any]:
    """PSNR, SSIM and silhouette IoU, means of the values of the chosen views."""
    surface = surface_of(backend, scene)
    rows = []
    for index in chosen:
        batch = views.batch([index])
        rgb, alpha, reference = beside(backend, scene, surface, batch, lens, background)
        values = image_metrics(rgb, reference, alpha, batch.alpha)
        rows.append({name: float(value[0]) for name, value in values.items()})
    names = rows[0].keys() if rows else ()
    means = {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}
    return means | {"views": len(rows)}


@torch.no_grad()
def compared(
    backend: Backend,
    scene: TopologyScene | MeshScene,
    views: Views,
    index: int,
    lens: Lens,
    background: str,
) -> ComparedView:
    """One view with everything that it is made of, on the processor."""
    batch = views.batch([index])
    surface = surface_of(backend, scene)
    rgb, alpha, reference = beside(backend, scene, surface, batch, lens, background)
    gbuffer = draw_surface(backend, surface, batch.cameras, lens.near, lens.far)
    material = scene.material.at(gbuffer)

    def full(values: Float[Tensor, "p 3"]) -> Float[Tensor, "h w 3"]:
        blank = torch.zeros_like(reference).reshape(-1, 3)
        return blank.index_copy(0, gbuffer.pixels, values).reshape(reference.shape)[0].cpu()

    return ComparedView(
        name=batch.names[0],
        ours=rgb[0].cpu(),
        reference=reference[0].cpu(),
        alpha=alpha[0].cpu(),
        albedo=full(material.albedo),
        orm=full(material.orm),
        normal=full(functional.normalize(gbuffer.normal, dim=-1, eps=1e-20)),
    )
