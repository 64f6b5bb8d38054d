"""Direct light without shadows, integrated: what split-sum shading approximates.

The G-buffer is that of isolux, the integral is not: GGX with Smith shadowing and Schlick's
Fresnel term. Where a surface is rough the sum goes over all texels of the cube map; where it
is smooth, over visible normals (Heitz 2018, "Sampling the GGX Distribution of Visible
Normals"). Letters: p pixels, d directions.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from isolux.backends import Backend
from isolux.backends.cubes import solid_angles
from isolux.backends.sample import cubemap
from isolux.render.draw import Picture
from isolux.render.gbuffer import compose
from isolux.render.light import EnvironmentLight, cube_directions
from isolux.render.shade import shading_normal

__all__ = ["integrated"]

_ROUGH = 0.2  # from here on a lobe is wider than several texels
_BLOCK = 128  # pixels at once


@torch.no_grad()
def integrated(
    backend: Backend,
    picture: Picture,
    light: EnvironmentLight,
    samples: int = 256,
    separable: bool = False,
) -> Tensor:
    """The picture over black with its specular light integrated instead of split.

    Args:
        backend: the operators.
        picture: ours; its G-buffer and its material are used.
        light: the environment, fixed to the world.
        samples: a pixel, where the surface is smooth.
        separable: Smith shadowing of light and view independent of each other, as Mitsuba's
            `principled` has it; else height-correlated, as glTF and isolux have it.

    Returns:
        [v h w 3], linear.
    """
    gbuffer, material = picture.gbuffer, picture.material
    normal = shading_normal(gbuffer, material.normal)
    view, orm = gbuffer.to_camera, material.orm
    metal, alpha = orm[:, 2:], orm[:, 1].square().clamp(min=1e-3)
    f0 = 0.04 * (1.0 - metal) + material.albedo * metal
    diffuse = cubemap(backend, [light.maps(backend).diffuse], normal, None)
    colour = diffuse * material.albedo * (1.0 - metal)
    smooth = orm[:, 1] < _ROUGH
    for chosen, function in ((smooth, _by_samples), (~smooth, _by_texels)):
        where = chosen.nonzero().squeeze(-1)
        for part in where.split(_BLOCK if function is _by_texels else 1 << 16):
            lobe = function(
                backend, light, normal[part], view[part], alpha[part], f0[part], samples,
                separable,
            )  # fmt: skip
            colour[part] += lobe
    colour *= 1.0 - orm[:, :1]
    full = torch.cat([colour, torch.ones_like(colour[:, :1])], dim=-1)
    empty = torch.cat([torch.zeros_like(picture.rgb), torch.zeros_like(picture.alpha)], dim=-1)
    return compose(backend, gbuffer, full, empty)[..., :3]


def _by_texels(
    backend: Backend, light: EnvironmentLight, n: Tensor, v: Tensor, alpha: Tensor, f0: Tensor,
    samples: int, separable: bool,
) -> Tensor:  # fmt: skip
    """Specular light [p 3]: the sum over the texels of the map."""
    del backend, samples
    base = light.base.detach()
    size = base.shape[1]
    look = cube_directions(size).reshape(-1, 3)  # [d, 3]
    steradians = solid_angles(size).float().reshape(1, size, size, 1)
    radiance = (base * steradians).reshape(-1, 3)
    cv, cl = (v * n).sum(-1, keepdim=True).clamp(min=1e-4), n @ look.T  # [p, d]
    lv = v @ look.T
    length = (2.0 + 2.0 * lv).clamp(min=1e-8).sqrt()  # of v + l
    ch, vh = (cv + cl) / length, (1.0 + lv) / length
    a2 = alpha.square()[:, None]
    density = a2 / (math.pi * (ch.square() * (a2 - 1.0) + 1.0).square())
    shadow = _smith(cv, cl.clamp(min=1e-4), alpha[:, None], separable)
    value = torch.where(cl > 0.0, density * shadow / (4.0 * cv), 0.0)
    grazing = (1.0 - vh.clamp(0.0, 1.0)).pow(5)
    return f0 * ((value * (1.0 - grazing)) @ radiance) + (value * grazing) @ radiance


def _by_samples(
    backend: Backend, light: EnvironmentLight, n: Tensor, v: Tensor, alpha: Tensor, f0: Tensor,
    samples: int, separable: bool,
) -> Tensor:  # fmt: skip
    """Specular light [p 3]: the mean over visible normals."""
    total = torch.zeros_like(f0)
    cv = (v * n).sum(-1).clamp(min=1e-4)
    alone = 1.0 / (1.0 + _lambda(cv, alpha))
    for number in range(samples):
        half = _visible_normal(n, v, alpha, *_pair(number, len(n)))
        toward = (v * half).sum(-1, keepdim=True)
        look = 2.0 * toward * half - v
        cl = (look * n).sum(-1)
        shadow = _smith(cv, cl.clamp(min=1e-4), alpha, separable) / alone
        weight = torch.where(cl > 0.0, shadow, 0.0)[:, None] / samples
        fresnel = f0 + (1.0 - f0) * (1.0 - toward.clamp(0.0, 1.0)) ** 5
        radiance = cubemap(backend, [light.base.detach()], look.contiguous(), None)
        total += radiance * fresnel * weight
    return total


def _lambda(cosine: Tensor, alpha: Tensor) -> Tensor:
    square = cosine.square().clamp(min=1e-8)
    return 0.5 * ((1.0 + alpha.square() * (1.0 - square) / square).sqrt() - 1.0)


def _smith(cv: Tensor, cl: Tensor, alpha: Tensor, separable: bool) -> Tensor:
    to_view, to_light = _lambda(cv, alpha), _lambda(cl, alpha)
    if separable:
        return 1.0 / ((1.0 + to_view) * (1.0 + to_light))
    return 1.0 / (1.0 + to_view + to_light)


def _pair(number: int, count: int) -> tuple[Tensor, Tensor]:
    """Two numbers in [0, 1) a pixel: the R2 sequence, shifted from pixel to pixel."""
    shift = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    step = torch.tensor([0.7548776662466927, 0.5698402909980532])
    point = (shift + number * step) % 1.0
    return point[:, 0], point[:, 1]


def _visible_normal(n: Tensor, v: Tensor, alpha: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Microfacet normals [p 3], in proportion to what the viewer sees of them."""
    axis = torch.where(
        n[:, :1].abs() < 0.7, n.new_tensor([1.0, 0, 0]), n.new_tensor([0, 1.0, 0])
    )
    t = functional.normalize(torch.linalg.cross(axis, n, dim=-1), dim=-1)
    u = torch.linalg.cross(n, t, dim=-1)
    local = torch.stack([(v * x).sum(-1) for x in (t, u, n)], dim=-1)
    stretched = functional.normalize(
        torch.stack(
            [alpha * local[:, 0], alpha * local[:, 1], local[:, 2].clamp(min=1e-4)], -1
        ),
        dim=-1,
    )
    x, y, z = stretched.unbind(-1)
    flat = (x * x + y * y).sqrt()
    safe = flat.clamp(min=1e-7)
    t1 = torch.where((flat > 1e-7)[:, None], torch.stack([-y / safe, x / safe, 0 * x], -1),
                     x.new_tensor([1.0, 0, 0]))  # fmt: skip
    t2 = torch.linalg.cross(stretched, t1, dim=-1)
    radius, angle = a.sqrt(), 2.0 * math.pi * b
    p1, p2 = radius * angle.cos(), radius * angle.sin()
    share = 0.5 * (1.0 + z)
    p2 = (1.0 - share) * (1.0 - p1 * p1).clamp(min=0).sqrt() + share * p2
    p3 = (1.0 - p1 * p1 - p2 * p2).clamp(min=0).sqrt()
    h = p1[:, None] * t1 + p2[:, None] * t2 + p3[:, None] * stretched
    h = functional.normalize(
        torch.stack([alpha * h[:, 0], alpha * h[:, 1], h[:, 2].clamp(min=1e-6)], -1), dim=-1
    )
    return h[:, :1] * t + h[:, 1:2] * u + h[:, 2:] * n
