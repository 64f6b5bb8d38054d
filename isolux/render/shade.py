"""From a G-buffer, a material and a light to colour: split-sum shading.

Karis 2013, "Real Shading in Unreal Engine 4"; the way it is trained follows Munkberg et al.
2022. Letters: p covered pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from isolux.backends import Backend
from isolux.backends.light import fg_lut
from isolux.backends.sample import cubemap
from isolux.backends.shade import split_sum
from isolux.geometry.cameras import Cameras
from isolux.render.gbuffer import GBuffer
from isolux.render.light import LightMaps
from isolux.render.material import MaterialSample

__all__ = ["shade", "shading_normal"]

_BEND = 0.1  # cosine to the viewer under which a normal is bent towards the face's


def shading_normal(
    gbuffer: GBuffer, perturbation: Float[Tensor, "p 3"] | None
) -> Float[Tensor, "p 3"]:
    """Unit normals to shade with: interpolated, perturbed, facing the viewer.

    Back sides are shaded as fronts. Where the smooth normal turns away from the viewer it is
    bent towards the face's, which cannot; otherwise silhouettes would sparkle.
    """
    normal = functional.normalize(gbuffer.normal, dim=-1, eps=1e-20)
    if perturbation is not None and gbuffer.tangent is not None:
        assert gbuffer.handedness is not None
        normal = _perturbed(normal, gbuffer.tangent, gbuffer.handedness, perturbation)
    face = gbuffer.face_normal
    side = torch.where((gbuffer.to_camera * face).sum(-1, keepdim=True) < 0.0, -1.0, 1.0)
    normal, face = normal * side.detach(), face * side.detach()
    facing = (gbuffer.to_camera * normal).sum(-1, keepdim=True)
    weight = (facing / _BEND).clamp(0.0, 1.0)
    return functional.normalize(torch.lerp(face, normal, weight), dim=-1, eps=1e-20)


def shade(
    backend: Backend,
    gbuffer: GBuffer,
    material: MaterialSample,
    light: LightMaps,
    camera_space: Cameras | None = None,
) -> Float[Tensor, "p 3"]:
    """Outgoing linear radiance at the covered pixels.

    Args:
        backend: the operators.
        gbuffer: the pixels.
        material: the material at those pixels.
        light: the prefiltered environment.
        camera_space: the cameras, when the light turns with them; none for a light that is
            fixed to the world.
    """
    normal = shading_normal(gbuffer, material.normal)
    cosine = (gbuffer.to_camera * normal).sum(-1)
    mirrored = 2.0 * cosine[:, None] * normal - gbuffer.to_camera
    if camera_space is not None:
        rotation = camera_space.world_from_camera[:, :3, :3].index_select(0, gbuffer.view)
        normal = (normal[:, None, :] @ rotation).squeeze(1)
        mirrored = (mirrored[:, None, :] @ rotation).squeeze(1)
    diffuse = cubemap(backend, [light.diffuse], normal, None)
    specular = cubemap(backend, list(light.specular), mirrored, light.level(material.orm[:, 1]))
    return split_sum(
        backend,
        material.albedo,
        material.orm,
        cosine.clamp(min=1e-4),
        diffuse,
        specular,
        fg_lut(),
    )


def _perturbed(
    normal: Float[Tensor, "p 3"],
    tangent: Float[Tensor, "p 3"],
    handedness: Float[Tensor, "p 1"],
    perturbation: Float[Tensor, "p 3"],
) -> Float[Tensor, "p 3"]:
    """A tangent-space normal in world space, as glTF reads it: +x along u, +y against v."""
    tangent = tangent - normal * (normal * tangent).sum(-1, keepdim=True)
    tangent = functional.normalize(tangent, dim=-1, eps=1e-20)
    bitangent = torch.linalg.cross(normal, tangent, dim=-1) * handedness
    x, y, z = perturbation.unbind(-1)
    world = tangent * x[:, None] + bitangent * y[:, None] + normal * z.clamp(min=1e-3)[:, None]
    return functional.normalize(world, dim=-1, eps=1e-20)
