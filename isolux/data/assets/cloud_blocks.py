"""Point clouds block by block, in little memory, however large the file is.

A file is read twice: once for what only all of its rows tell (`clouds_survey`), then for its
points. Of formats that cannot be read in parts (NPZ, OBJ, COLMAP, scans with poses, what PCD
compresses) a file is read whole and cut.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from isolux.data.assets.clouds import files_of, format_of, seen_from
from isolux.data.assets.clouds_survey import Survey
from isolux.geometry.points.cloud import PointCloud

__all__ = ["CloudBlocks", "cloud_blocks"]

_POINTS = 1_000_000


def cloud_blocks(path: Path, points: int = _POINTS) -> Iterator[PointCloud]:
    """The points of a file or folder as `read_cloud` gives them, at most `points` at a time.

    Raises:
        ValueError: a number of points below one; otherwise as `read_cloud`, before the first
            block.
        FileNotFoundError, ImportError, OSError: as `read_cloud`.
    """
    return CloudBlocks(path, points)()


class CloudBlocks:
    """The blocks of a cloud, as often as asked for: each call begins anew.

    Args:
        path: what `read_cloud` takes.
        points: of a block at most.
        sensor: where all points were seen from, in place of what the file says.

    Raises:
        ValueError, FileNotFoundError, ImportError, OSError: as `read_cloud`; what is wrong
            with a header now, with points at the first call.
    """

    def __init__(
        self, path: Path, points: int = _POINTS, sensor: Sequence[float] | None = None
    ) -> None:
        if points < 1:
            raise ValueError(f"points: a block needs at least 1, got {points}")
        self.path = Path(path)
        self._sensor = sensor
        self._files = [_File(file, points) for file in files_of(self.path)]

    def __call__(self) -> Iterator[PointCloud]:
        """The blocks from the first one on; with normals, sensors, colours if all have them."""
        for file in self._files:  # all of them, before the first block
            file.survey()
        has = frozenset.intersection(*(file.survey() for file in self._files))
        for file in self._files:
            for block in file.blocks():
                cloud = PointCloud(
                    block.xyz,
                    block.normals if "normals" in has else None,
                    block.sensor if "sensor" in has else None,
                    block.colors if "colors" in has else None,
                )
                yield cloud if self._sensor is None else seen_from(cloud, self._sensor)

    @property
    def points(self) -> int:
        """How many there are; reads them, the first time."""
        return sum(file.points for file in self._files)

    def more_than(self, points: int) -> bool | None:
        """Whether there are more points, without reading them; None: only reading tells."""
        most = [file.most() for file in self._files]
        if None in most:
            return None
        if sum(count for count in most if count is not None) <= points:
            return False
        return sum(file.count() for file in self._files) > points


class _File:
    """A file of a cloud."""

    def __init__(self, path: Path, points: int) -> None:
        self._path, self._points = path, points
        self._form, self._source = format_of(path)
        self._survey: Survey | None = None
        self._has: frozenset[str] | None = None
        self._number = 0

    def most(self) -> int | None:
        """No more points are there, found at once; None: only reading tells."""
        if self._source is None or self._form.count is None:
            return None
        return (self._form.most or self._form.count)(self._source)

    def count(self) -> int:
        """The number of points, of lines where the file is text."""
        assert self._source is not None
        assert self._form.count is not None
        return self._form.count(self._source)

    def survey(self) -> frozenset[str]:
        """What is known of all points; reads them, the first time."""
        if self._has is not None:
            return self._has
        if self._form.parts is None or self._source is None:
            cloud = self._whole()
            names = ("normals", "sensor", "colors")
            self._has = frozenset(x for x in names if getattr(cloud, x) is not None)
            self._number = len(cloud)
            return self._has
        survey = Survey(self._path)
        for part in self._form.parts(self._source, self._points):
            survey.see(part)
        survey.check()
        self._survey, self._has, self._number = survey, survey.has, survey.points
        return self._has

    @property
    def points(self) -> int:
        self.survey()
        return self._number

    def blocks(self) -> Iterator[PointCloud]:
        if self._survey is None or self._form.parts is None or self._source is None:
            cloud = self._whole()
            for first in range(0, len(cloud), self._points):
                yield cloud[slice(first, first + self._points)]
            return
        for part in self._form.parts(self._source, self._points):
            yield self._survey.cloud(part)

    def _whole(self) -> PointCloud:
        assert self._form.whole is not None
        return self._form.whole(self._path)
