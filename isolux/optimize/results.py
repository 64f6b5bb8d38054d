"""What a run leaves behind: assets, metrics, pictures.

Letters: v views.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.data.views import Batch, Views
from isolux.optimize.scene import MeshScene
from isolux.render.draw import Lens, Picture, draw
from isolux.render.metrics import composite, image_metrics

__all__ = ["draw_view", "view_metrics"]


@torch.no_grad()
def draw_view(
    backend: Backend, scene: MeshScene, views: Views, lens: Lens, background: str, index: int
) -> tuple[Picture, Float[Tensor, "1 h w 3"], Batch]:
    """One view drawn over a background, the same background over the reference, its batch."""
    batch = views.batch([index])
    nothing = torch.zeros_like(batch.rgb)
    behind = composite(nothing, torch.zeros_like(batch.alpha), background)
    maps = scene.light.maps(backend)
    picture = draw(backend, scene.surface(), scene.material, maps, batch.cameras, lens, behind)
    return picture, composite(batch.rgb, batch.alpha, background), batch


def view_metrics(
    backend: Backend, scene: MeshScene, views: Views, lens: Lens, background: str
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Means of PSNR, SSIM and silhouette IoU over the views, and the values of each view."""
    rows = []
    for index in range(len(views)):
        picture, reference, batch = draw_view(backend, scene, views, lens, background, index)
        values = image_metrics(picture.rgb, reference, picture.alpha, batch.alpha)
        rows.append({name: float(value[0]) for name, value in values.items()})
    names = rows[0].keys() if rows else ()
    means = {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}
    return means | {"views": len(rows)}, rows
