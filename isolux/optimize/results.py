"""What a run leaves behind: assets, metrics, pictures.

Letters: v views.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from isolux.backends import Backend
from isolux.data.views import Views
from isolux.geometry.mesh import Mesh
from isolux.optimize.scene import MeshScene
from isolux.render.draw import Lens, Picture, draw
from isolux.render.metrics import psnr, silhouette_iou, ssim

__all__ = ["backdrop", "view_metrics"]

Background = Literal["white", "black", "checker"]


def backdrop(kind: Background, height: int, width: int) -> Float[Tensor, "h w 3"]:
    """A background in linear light; the checker has 8-pixel squares of two greys."""
    if kind == "checker":
        rows, columns = torch.arange(height) // 8, torch.arange(width) // 8
        light = ((rows[:, None] + columns[None, :]) % 2 == 0)[..., None]
        return torch.where(light, 0.66, 0.33).expand(height, width, 3)
    return torch.full((height, width, 3), 1.0 if kind == "white" else 0.0)


@torch.no_grad()
def draw_views(
    backend: Backend,
    scene: MeshScene,
    views: Views,
    lens: Lens,
    background: Background,
    index: int,
) -> tuple[Picture, Float[Tensor, "1 h w 3"], Float[Tensor, "1 h w 1"], str]:
    """One view drawn, beside its reference over the same background."""
    batch = views.batch([index])
    behind = backdrop(background, *views.size)[None]
    picture = draw(
        backend,
        scene.surface(),
        scene.material,
        scene.light.maps(backend),
        batch.cameras,
        lens,
        behind,
    )
    return picture, torch.lerp(behind, batch.rgb, batch.alpha), batch.alpha, batch.names[0]


def view_metrics(
    backend: Backend, scene: MeshScene, views: Views, lens: Lens, background: Background
) -> dict[str, Any]:
    """PSNR and SSIM over 8-bit sRGB pictures and silhouette IoU, means over the views."""
    rows = []
    for index in range(len(views)):
        picture, reference, alpha, _ = draw_views(
            backend, scene, views, lens, background, index
        )
        rows.append(
            (
                psnr(picture.rgb, reference),
                ssim(picture.rgb, reference),
                silhouette_iou(picture.alpha, alpha),
            )
        )
    count = max(len(rows), 1)
    names = ("psnr", "ssim", "silhouette_iou")
    means = {name: math.fsum(row[i] for row in rows) / count for i, name in enumerate(names)}
    return means | {"views": len(rows), "background": background}
