"""Clouds too large for memory: which are, the fit of their tiles, the folder it works in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from isolux.confs.points import PointsConf
from isolux.data.assets.cloud_blocks import CloudBlocks
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.tiled.field import TiledField
from isolux.geometry.points.tiled.fit import fit_tiles
from isolux.geometry.points.tiled.options import TileOptions
from isolux.optimize.lock import locked
from isolux.optimize.points_prepare import as_told, prepared_tile
from isolux.render.files import PARTIAL

__all__ = ["field_of_tiles", "hierarchy_options", "is_large", "work_folder"]

_LOCK = ".lock"
Tell = Callable[[str, float], None]


def is_large(path: Path, conf: PointsConf) -> bool | None:
    """Whether a cloud is to be cut into tiles; None: it must be read to know.

    Raises:
        ValueError, OSError, ImportError: as `read_cloud`, of the file's header.
    """
    if conf.solver != "hierarchy":
        return False
    return conf.tiles.above == 0 or CloudBlocks(path).more_than(conf.tiles.above)


def field_of_tiles(
    read: CloudBlocks,
    folder: Path,
    conf: PointsConf,
    tell: Tell = lambda text, share: None,
) -> TiledField:
    """The field of a cloud, tile by tile; it reads from the folder.

    What is finished in the folder is not done again.

    Raises:
        ValueError, OSError, ImportError: as `read_cloud` and `field_of`.
        RuntimeError: a tile failed more often than it may.
    """

    def blocks() -> Iterator[PointCloud]:
        return (as_told(block, conf.normals) for block in read())

    tell("looking at the points", 0.0)
    next(blocks())  # what is wrong with them is said before the folder is made
    tiles = TileOptions(
        points=conf.tiles.points,
        workers=conf.tiles.workers,
        runner=conf.tiles.runner,
        address=conf.tiles.address,
        retries=conf.tiles.retries,
    )
    prepare = partial(prepared_tile, clean=conf.clean, normals=conf.normals)
    return fit_tiles(blocks, folder, hierarchy_options(conf), tiles, prepare, _onward(tell))


def _onward(tell: Tell) -> Tell:
    """Told of shares that never go back: some steps are passed through more than once."""
    most = [0.0]

    def told(text: str, share: float) -> None:
        most[0] = max(most[0], share)
        tell(text, most[0])

    return told


def hierarchy_options(conf: PointsConf) -> HierarchyOptions:
    """The settings of the solver `hierarchy` that are given."""
    given = {
        name: getattr(conf, name)
        for name in (
            *("detail_level", "voxel_size", "depth", "value_weight", "normal_weight"),
            *("smoothness", "learned", "solver_tol", "max_iter"),
        )
        if getattr(conf, name) is not None
    }
    return HierarchyOptions(**given)


@contextmanager
def work_folder(folder: Path, resume: bool) -> Iterator[Path]:
    """A folder for tiles, looked at, and locked for this process.

    What was worked out stays when something goes wrong; a folder that is still empty goes.

    Raises:
        FileExistsError: something is there and `resume` is false.
        FileNotFoundError: nothing is there and `resume` is true.
        NotADirectoryError: the name is that of a file.
        BlockingIOError: another process works there.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; name a folder with --work")
    if _begun(folder) and not resume:
        raise FileExistsError(
            f"{folder}: already holds tiles; go on with them by --resume, remove it, or"
            " choose another folder with --work"
        )
    if resume and not _begun(folder):
        raise FileNotFoundError(
            f"{folder}: holds no tiles to go on with; start without --resume"
        )
    try:
        with locked(folder):
            yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def _begun(folder: Path) -> bool:
    """Whether there is something that a new run would destroy."""
    return folder.is_dir() and any(
        file.name != _LOCK and not file.name.startswith(PARTIAL) for file in folder.iterdir()
    )
