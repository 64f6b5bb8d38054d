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
from isolux.render.draw import Lens, Picture, draw
from isolux.render.gbuffer import Surface
from isolux.render.metrics import composite, image_metrics

__all__ = ["compared", "draw_view", "spread", "surface_of", "view_metrics"]


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
def draw_view(
    backend: Backend,
    scene: TopologyScene | MeshScene,
    surface: Surface,
    batch: Batch,
    lens: Lens,
    background: str,
) -> tuple[Picture, Float[Tensor, "v h w 3"]]:
    """Views drawn over a background, and the references over the same."""
    behind = composite(torch.zeros_like(batch.rgb), torch.zeros_like(batch.alpha), background)
    maps = scene.light.maps(backend)
    picture = draw(backend, surface, scene.material, maps, batch.cameras, lens, behind)
    return picture, composite(batch.rgb, batch.alpha, background)


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
        picture, reference = draw_view(backend, scene, surface, batch, lens, background)
        values = image_metrics(picture.rgb, reference, picture.alpha, batch.alpha)
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
    """One view with everything that it is made of."""
    batch = views.batch([index])
    surface = surface_of(backend, scene)
    picture, reference = draw_view(backend, scene, surface, batch, lens, background)
    gbuffer = picture.gbuffer

    def full(values: Float[Tensor, "p 3"]) -> Float[Tensor, "h w 3"]:
        blank = torch.zeros_like(reference).reshape(-1, 3)
        return blank.index_copy(0, gbuffer.pixels, values).reshape(reference.shape)[0]

    return ComparedView(
        name=batch.names[0],
        ours=picture.rgb[0],
        reference=reference[0],
        alpha=picture.alpha[0],
        albedo=full(picture.material.albedo),
        orm=full(picture.material.orm),
        normal=full(functional.normalize(gbuffer.normal, dim=-1, eps=1e-20)),
    )
