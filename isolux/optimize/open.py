"""Opening what a configuration names as its data."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.confs.schema import DataConf
from isolux.data.assets.hdr import load_probe
from isolux.data.assets.textures import MeshAsset
from isolux.data.blender import nerf_synthetic_views
from isolux.data.detect import read_asset, scene_kind
from isolux.data.procedural import demo_scene
from isolux.data.rendered import RenderedViews
from isolux.data.views import Views

__all__ = ["Scene", "open_scene"]

_RENDERED_SIZE = 256  # pixels, of views that are drawn from a mesh
_RENDERED_VIEWS = 1 << 16  # so many different training views there are
_RENDERED_TESTS = 20


@dataclass(frozen=True)
class Scene:
    """Views to train on and views held out, and the truth behind them where it is known."""

    kind: str
    train: Views
    test: Views
    reference: MeshAsset | None = None
    probe: Float[Tensor, "h w 3"] | None = None


def open_scene(data: DataConf, backend: Backend, seed: int) -> Scene:
    """Read or draw the views.

    Raises:
        ValueError, FileNotFoundError: what is missing or wrong, in one line.
    """
    kind, device = data.kind, backend.device
    if data.path is None and kind != "procedural":
        raise ValueError("data.path is not set: give a scene folder or a mesh, data.path=...")
    if kind == "auto":
        assert data.path is not None
        kind = scene_kind(data.path)
    if kind == "nerf_synthetic":
        assert data.path is not None
        return Scene(
            kind,
            nerf_synthetic_views(data.path, "train", data.size, data.train_views).to(device),
            nerf_synthetic_views(data.path, "test", data.size, data.test_views).to(device),
        )
    if kind == "procedural":
        asset, probe = demo_scene()
    else:
        assert data.path is not None
        asset = read_asset(data.path)
        if data.envmap is None:
            raise ValueError(
                "data.envmap is not set: a mesh is drawn as reference under a probe "
                "(.hdr, .exr)"
            )
        probe = load_probe(data.envmap)
    probe = probe * data.envmap_scale
    size = data.size or _RENDERED_SIZE
    shape = (size, size) if isinstance(size, int) else size
    train = RenderedViews(
        asset,
        probe,
        backend,
        shape,
        count=data.train_views or _RENDERED_VIEWS,
        distance=data.camera_distance,
        fov_degrees=data.camera_fov,
        jitter=data.camera_jitter,
        seed=seed,
        near=data.near,
        far=data.far,
    )
    test = RenderedViews.orbit(
        asset,
        probe,
        backend,
        shape,
        count=data.test_views or _RENDERED_TESTS,
        distance=data.camera_distance,
        fov_degrees=data.camera_fov,
        near=data.near,
        far=data.far,
    )
    return Scene(kind, train, test, asset, probe)
