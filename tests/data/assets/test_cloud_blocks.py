"""Blocks of a cloud's file, put together, are what `read_cloud` gives of the whole."""

import gzip
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isolux.data.assets.cloud_blocks import CloudBlocks, cloud_blocks
from isolux.data.assets.clouds import joined, read_cloud
from isolux.geometry.points.cloud import PointCloud

COUNT = 103
RANDOM = np.random.default_rng(7)
XYZ = np.round(RANDOM.normal(size=(COUNT, 3)) * 40, 3)
NORMALS = XYZ / np.linalg.norm(XYZ, axis=1, keepdims=True)
# The last row alone says that these are bytes and 16 bits, and not shares of one.
DIM = np.concatenate([np.ones((COUNT - 1, 3), int), [[3, 2, 1]]])
DEEP = np.concatenate([np.ones((COUNT - 1, 3), int), [[300, 2, 1]]])


def ply(
    path: Path, order: str, kinds: Iterable[tuple[str, str, Any]], before: str = ""
) -> None:
    """A PLY file of columns (type, name, values)."""
    kinds = list(kinds)
    names = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort", "i4": "int"}
    form = {"=": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = f"ply\nformat {form} 1.0\n"
    if before:
        head += "element grid 2\nproperty list uchar int a\n"
    head += f"element vertex {COUNT}\n"
    head += "".join(f"property {names[kind]} {name}\n" for kind, name, _ in kinds)
    grid = {"=": b"1 5\n0\n", "<": b"\1\5\0\0\0\0", ">": b"\1\0\0\0\5\0"}[order]
    body = grid if before else b""
    if order == "=":
        rows = zip(*(values for _, _, values in kinds), strict=True)
        body += "".join(" ".join(f"{x:.9g}" for x in row) + "\r\n" for row in rows).encode()
    else:
        table = np.empty(COUNT, [(name, order + kind) for kind, name, _ in kinds])
        for _, name, values in kinds:
            table[name] = values
        body += table.tobytes()
    path.write_bytes(head.encode() + b"end_header\n" + body)


def columns(names: str, kind: str, values: Any) -> list[tuple[str, str, Any]]:
    return [(kind, name, values[:, i]) for i, name in enumerate(names.split())]


def some_ply(order: str, color: str, before: str = "") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        bright = DEEP if color == "u2" else DIM
        parts = [*columns("x y z", "f8", XYZ), *columns("nx ny nz", "f4", NORMALS)]
        ply(folder / "a.ply", order, parts + columns("red green blue", color, bright), before)
        return folder / "a.ply"

    return write


def some_text(name: str, table: Any, gap: str = " ", head: str = "") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        lines = (gap.join(f"{x:.9g}" for x in row) + "\n" for row in table)
        (folder / name).write_text(head + "".join(lines))
        return folder / name

    return write


def some_pcd(data: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        head = (
            "# .PCD v0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
            f"WIDTH {COUNT}\nHEIGHT 1\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS {COUNT}\nDATA {data}\n"
        )
        rgb = DIM[:, 0] << 16 | DIM[:, 1] << 8 | DIM[:, 2]
        if data == "ascii":
            rows = (
                f"{x:.9g} {y:.9g} {z:.9g} {c}\n" for (x, y, z), c in zip(XYZ, rgb, strict=True)
            )
            body = "".join(rows).encode()
        else:
            table = np.empty(COUNT, [("xyz", "<f4", 3), ("rgb", "<u4")])
            table["xyz"], table["rgb"] = XYZ, rgb
            body = table.tobytes()
        (folder / "a.pcd").write_bytes(head.encode() + body)
        return folder / "a.pcd"

    return write


def some_las(colors: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        head = bytearray(227)
        head[:4], head[24:26] = b"LASF", b"\1\2"
        struct.pack_into("<HII", head, 94, 227, 227, 0)
        struct.pack_into("<BHI", head, 104, 2, 26, COUNT)
        struct.pack_into("<6d", head, 131, 0.001, 0.001, 0.001, 5e5, 5.2e6, 300.0)
        table = np.zeros(COUNT, [("xyz", "<i4", 3), ("rest", "V8"), ("rgb", "<u2", 3)])
        table["xyz"], table["rgb"] = np.round(XYZ * 1000), colors
        (folder / "a.las").write_bytes(bytes(head) + table.tobytes())
        return folder / "a.las"

    return write


def some_npy(order: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / "a.npy", np.asarray(np.hstack([XYZ, NORMALS]), order=order))  # type: ignore[call-overload]
        return folder / "a.npy"

    return write


def some_kitti(folder: Path) -> Path:
    np.hstack([XYZ, XYZ[:, :1]]).astype("<f4").tofile(folder / "a.bin")
    return folder / "a.bin"


def some_npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", points=XYZ, colors=DIM)
    return folder / "a.npz"


def some_folder(folder: Path) -> Path:
    """Normals in both files, colours in one, which hence has them for nothing."""
    inner = folder / "clouds"
    inner.mkdir()
    some_ply("<", "u1")(inner).rename(inner / "b.ply")
    some_text("a.xyz", np.hstack([XYZ, NORMALS]))(inner)
    (inner / "readme.txt").write_text("what is said of them")
    return inner


SHADES = DIM / 255
FILES = {
    **{
        f"ply {order} {color} {before}": some_ply(order, color, before)
        for order, color, before in (
            ("=", "i4", ""),
            ("=", "u2", "lists"),
            ("=", "f4", ""),
            ("<", "u1", ""),
            ("<", "u2", "lists"),
            (">", "i4", ""),
            (">", "f4", "lists"),
        )
    },
    "xyz": some_text("a.xyz", XYZ),
    "bytes": some_text("a.txt", np.hstack([XYZ, DIM])),
    "16 bits": some_text("a.txt", np.hstack([XYZ, DEEP]), head="x y z r g b\n"),
    "shares": some_text("a.txt", np.hstack([XYZ, SHADES]), head="# x y z red green blue\n"),
    "normals": some_text("a.csv", np.hstack([XYZ, NORMALS]), gap=","),
    "both": some_text("a.csv", np.hstack([XYZ, SHADES, NORMALS]), gap=";"),
    "intensity first": some_text("a.pts", np.hstack([XYZ, XYZ[:, :1], DIM]), head=f"{COUNT}\n"),
    "intensity last": some_text("a.asc", np.hstack([XYZ, DIM, np.ones((COUNT, 1))])),
    "no normals": some_text("a.xyzn", np.hstack([XYZ, -DIM])),
    "pcd ascii": some_pcd("ascii"),
    "pcd binary": some_pcd("binary"),
    "las": some_las(DEEP),
    "las unfilled": some_las(DEEP * 0),
    "npy": some_npy("C"),
    "npy columns": some_npy("F"),
    "npz": some_npz,
    "kitti": some_kitti,
    "folder": some_folder,
}


def assert_same(found: PointCloud, expected: PointCloud) -> None:
    for name in ("xyz", "normals", "sensor", "colors"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype
            assert torch.equal(one, other), name


@pytest.mark.parametrize("size", [9, 1000])
@pytest.mark.parametrize("name", FILES)
def test_blocks_are_the_whole(name: str, size: int, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    whole = read_cloud(path)
    assert len(whole) == COUNT * (2 if name == "folder" else 1)
    read = CloudBlocks(path, size)
    blocks = list(read())
    assert max(len(block) for block in blocks) <= size
    assert_same(joined(blocks), whole)
    assert_same(joined(list(read())), whole)  # as often as asked
    if name != "npz":
        assert read.more_than(len(whole) - 1) is True
        assert read.more_than(2 * len(whole) + 20) is False
    if path.is_file():
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert_same(joined(list(cloud_blocks(packed, size))), whole)


def test_a_sensor_for_all(tmp_path: Path) -> None:
    blocks = list(CloudBlocks(some_npy("C")(tmp_path), 50, (1.0, 2.0, 3.0))())
    assert all((block.sensor == torch.tensor([1.0, 2.0, 3.0])).all() for block in blocks)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_files_say_what_they_say_as_a_whole(
    name: str, packed: bool, tmp_path: Path
) -> None:
    path = FILES[name](tmp_path)
    if name == "folder":
        path = path / "b.ply"
    data = path.read_bytes()
    data = gzip.compress(data[:-5]) if packed else data[:-5]
    path.write_bytes(data[:-1] if packed else data)
    whole, said = attempted(lambda: read_cloud(path))
    blocks, says = attempted(lambda: joined(list(cloud_blocks(path, 7))))
    assert said == says
    assert "\n" not in said
    if whole is not None and blocks is not None:  # of text the last number became shorter
        assert_same(blocks, whole)


def attempted(read: Callable[[], PointCloud]) -> tuple[PointCloud | None, str]:
    """What is read, or what is said."""
    try:
        return read(), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 2 3\n" * 20 + "1 2 x\n", "could not convert string 'x' to float64 at row 20"),
        ("1 2 3\n" * 20 + "1 2\n", "the number of columns changed from 3 to 2 at row 21"),
        ("1 2 3\n" * 24 + "1 2\n", "the number of columns changed from 3 to 2 at row 25"),
        ("1 2 3\n" * 3 + "nan nan nan\n" * 0, ""),
        ("nan 1 2\n" * 9, "none of its 9 points is finite"),
        ("30\n" + "1 2 3\n" * 29, "its first line says 30 points, it has 29"),
        ("# nothing\n", "has no points"),
    ],
)
def test_damaged_text_says_where(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(text)
    if not says:
        assert len(list(cloud_blocks(path, 2))) == 2
        return
    for read in (read_cloud, lambda path: next(cloud_blocks(path, 6))):
        with pytest.raises(ValueError, match=says):
            read(path)


def test_what_is_no_cloud(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder without points"):
        next(cloud_blocks(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such cloud"):
        next(cloud_blocks(tmp_path / "a.ply"))
    with pytest.raises(ValueError, match="needs at least 1"):
        next(cloud_blocks(tmp_path, 0))


@pytest.mark.parametrize("suffix", ["ply", "npy", "bin"])
def test_memory_is_that_of_a_block(suffix: str, tmp_path: Path) -> None:
    """Of 100 blocks the peak is a few, not all."""
    count, size = 500_000, 5_000
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, np.ones((count, 3)))
    else:
        rows = np.ones((count, 4 if suffix == "bin" else 3), "<f4").tobytes()
        head = "ply\nformat binary_little_endian 1.0\nelement vertex 500000\n"
        head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
        path.write_bytes((head.encode() if suffix == "ply" else b"") + rows)
    tracemalloc.start()
    assert sum(len(block) for block in cloud_blocks(path, size)) == count
    assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 2
    tracemalloc.stop()
