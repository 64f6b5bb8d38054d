"""From a G-buffer, a material and a light to colour: split-sum shading.

Karis 2013, "Real Shading in Unreal Engine 4"; the way it is trained follows Munkberg et al.
2022. Letters: p covered pixels.
"""

from jaxtyping import Float
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.frame import shading_frame
from isolux.backends.light import fg_lut
from isolux.backends.sample import cubemap
from isolux.backends.shade import split_sum
from isolux.geometry.cameras import Cameras
from isolux.render.gbuffer import GBuffer
from isolux.render.light import LightMaps
from isolux.render.material import MaterialSample

__all__ = ["shade", "shading_normal"]


def shading_normal(
    gbuffer: GBuffer, perturbation: Float[Tensor, "p 3"] | None
) -> Float[Tensor, "p 3"]:
    """Unit normals to shade with, as in `shade`: interpolated, perturbed, facing the viewer.

    Back sides are shaded as fronts. Where the smooth normal turns away from the viewer it is
    bent towards the face's.
    """
    return _frame(backends.reference(), gbuffer, perturbation)[0]


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
    normal, mirrored, cosine = _frame(backend, gbuffer, material.normal)
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
        cosine,
        diffuse,
        specular,
        fg_lut(device=cosine.device),
    )


def _frame(
    backend: Backend, gbuffer: GBuffer, perturbation: Float[Tensor, "p 3"] | None
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"], Float[Tensor, " p"]]:
    """Normal, mirrored view direction, cosine between normal and view."""
    return shading_frame(
        backend,
        gbuffer.position,
        gbuffer.normal,
        gbuffer.face_normals,
        gbuffer.triangle,
        gbuffer.camera,
        gbuffer.view,
        gbuffer.tangent,
        gbuffer.handedness,
        perturbation,
    )
