"""Damaged clouds: one line that names the file, what is wrong and what was expected."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from isolux.data.assets.clouds import read_cloud

PLY = (
    "ply\nformat {0} 1.0\nelement vertex {1}\nproperty float x\nproperty float y\n"
    "property float z\nend_header\n"
)
LITTLE = "binary_little_endian"
PCD = (
    "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {0}\nHEIGHT 1\n"
    "POINTS {0}\nDATA {1}\n"
)


def text(count: object, rows: str = "") -> bytes:
    return (PLY.format("ascii", count) + rows).encode()


ROWS = "0 0 0\n1 0 0\n0 1 0\n"
HUGE = 10**15


def header(change: tuple[str, str]) -> bytes:
    return (PLY.format("ascii", 3).replace(*change) + ROWS).encode()


def npz(changes: dict[int, int]) -> bytes:
    """A good archive, but for some bytes of its member's header, wherever that stands."""
    stream = io.BytesIO()
    np.savez(stream, xyz=np.zeros((4, 3)))
    data = bytearray(stream.getvalue())
    for start, shift in ((0, 0), (data.index(b"PK\x01\x02"), 2)):
        for at, value in changes.items():
            data[start + shift + at] = value
    return bytes(data)


def las(change: dict[int, bytes], body: int = 20) -> bytes:
    data = bytearray(227 + body)
    data[:4], data[24], data[25] = b"LASF", 1, 2
    struct.pack_into("<HIIBHI", data, 94, 227, 227, 0, 0, 20, 1)
    struct.pack_into("<6d", data, 131, 1, 1, 1, 0, 0, 0)
    for at, value in change.items():
        data[at : at + len(value)] = value
    return bytes(data)


def points3d(count: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack("<QQ3d3BdQ", count, 1, 0, 0, 0, 1, 2, 3, 0.0, length) + body


BAD: dict[str, tuple[str, bytes, str]] = {
    # file name, content, what the line says
    "empty": ("a.ply", b"", "is empty"),
    "not ply": ("a.ply", b"solid x\n", "begins with 'solid x', expected 'ply'"),
    "ply without end": ("a.ply", b"ply\nformat ascii 1.0\n", "no end_header"),
    "ply format": ("a.ply", header(("ascii", "utf8")), "header line 'format utf8"),
    "ply no format": ("a.ply", header(("format ascii 1.0\n", "")), "names no format"),
    "ply type": ("a.ply", header(("float x", "quad x")), "expected char, uchar"),
    "ply line": ("a.ply", header(("element", "elephant")), "header line 'elephant"),
    "ply property first": ("a.ply", b"ply\nproperty float x\nend_header\n", "header line"),
    "ply twice": ("a.ply", header(("float y", "float x")), "a property twice"),
    "ply no z": ("a.ply", header(("float z", "float w")), "has x, y but no z"),
    "ply no vertex": ("a.ply", header(("vertex", "corner")), "no element 'vertex'"),
    "ply no points": ("a.ply", text(0), "has no points"),
    "ply negative": ("a.ply", text(-3), "'-3', expected a whole number"),
    "ply half": ("a.ply", text("3.5"), "expected a whole number"),
    "ply huge": ("a.ply", PLY.format(LITTLE, HUGE).encode(), "room for"),
    "ply digits": ("a.ply", PLY.format(LITTLE, "9" * 5000).encode(), "expected a whole number"),
    "ply list of floats": (
        "a.ply", header(("float z", "list float int z")), "is counted in float",
    ),
    "ply truncated": (
        "a.ply", PLY.format(LITTLE, 3).encode() + bytes(35), "need 36 bytes, it has 35",
    ),
    "ply truncated text": ("a.ply", text(4, ROWS), "it has 3"),
    "ply ragged": ("a.ply", text(3, "0 0 0\n1 1\n1 1 1\n"), "columns"),
    "ply wide": ("a.ply", text(1, "0 0 0 7\n"), "has 4 numbers"),
    "ply words": ("a.ply", text(1, "0 zero 0\n"), "zero"),
    "ply nan": ("a.ply", text(1, "nan 0 0\n"), "none of its 1 points"),
    "ply list": (
        "a.ply",
        header(("element vertex", "element face 9\nproperty list uint int at\nelement vertex"))
        .replace(b"ascii", LITTLE.encode()),
        "a row ends behind",
    ),
    "ply negative list": (
        "a.ply",
        header(("element vertex", "element face 1\nproperty list char int at\nelement vertex"))
        .replace(b"ascii", LITTLE.encode()).replace(b"end_header\n", b"end_header\n\xff"),
        "a row ends behind",
    ),
    "pcd no data": ("a.pcd", b"VERSION 0.7\nFIELDS x y z\n", "no DATA line"),
    "pcd line": ("a.pcd", b"HELLO 1\nDATA ascii\n", "header line 'HELLO 1'"),
    "pcd no fields": ("a.pcd", b"VERSION 0.7\nDATA ascii\n", "no FIELDS"),
    "pcd sizes": ("a.pcd", PCD.replace("4 4 4", "4 4").format(3, "ascii").encode(), "2 entr"),
    "pcd type": ("a.pcd", PCD.format(3, "ascii").replace("F F F", "F F Q").encode(), "TYPE Q"),
    "pcd size": ("a.pcd", PCD.format(3, "ascii").replace("4 4 4", "4 4 3").encode(), "SIZE 3"),
    "pcd count": (
        "a.pcd", PCD.format(3, "ascii").replace("1 1 1", "1 1 99999999").encode(), "COUNT of z",
    ),
    "pcd points": (
        "a.pcd", PCD.format(3, "ascii").replace("WIDTH 3", "WIDTH 4").encode(), "is 4",
    ),
    "pcd no points": ("a.pcd", PCD.format(0, "ascii").encode(), "has no points"),
    "pcd data": ("a.pcd", PCD.format(3, "brotli").encode(), "DATA is 'brotli', expected ascii"),
    "pcd viewpoint": (
        "a.pcd", ("VIEWPOINT 1 2\n" + PCD.format(3, "ascii")).encode(), "expected 7 numbers",
    ),
    "pcd text": ("a.pcd", (PCD.format(3, "ascii") + "0 0 0\n").encode(), "it has 1 rows"),
    "pcd width": ("a.pcd", (PCD.format(1, "ascii") + "0 0\n").encode(), "has 2 numbers"),
    "pcd nothing": ("a.pcd", PCD.format(3, "ascii").encode(), "it has 0 rows"),
    "pcd truncated": ("a.pcd", PCD.format(3, "binary").encode() + bytes(9), "it has 9"),
    "pcd huge": ("a.pcd", PCD.format(HUGE, "binary").encode(), "room for"),
    "pcd sizes lost": ("a.pcd", PCD.format(3, "binary_compressed").encode() + b"12", "absent"),
    "pcd other size": (
        "a.pcd",
        PCD.format(3, "binary_compressed").encode() + struct.pack("<II", 4, 99) + bytes(4),
        "says 99",
    ),
    "pcd lzf truncated": (
        "a.pcd",
        PCD.format(3, "binary_compressed").encode() + struct.pack("<II", 40, 36) + bytes(4),
        "40 bytes of compressed data, it has 4",
    ),
    "pcd lzf damaged": (
        "a.pcd",
        PCD.format(3, "binary_compressed").encode() + struct.pack("<II", 3, 36) + b"\xff" * 3,
        "damaged LZF",
    ),
    "pcd lzf short": (
        "a.pcd",
        PCD.format(3, "binary_compressed").encode() + struct.pack("<II", 2, 36) + b"\x00a",
        "holds 1 bytes",
    ),
    "text ragged": ("a.xyz", b"0 0 0\n1 1\n", "columns"),
    "text words": ("a.xyz", b"0 0 0\nC 1 1\n", "'C'"),
    "text width": ("a.xyz", b"0 0 0 0 0\n", "5 numbers a row, expected 3"),
    "text count": ("a.xyz", b"3\n0 0 0\n1 1 1\n", "says 3 points, it has 2"),
    "text nothing": ("a.xyz", b"# nothing\n\n", "has no points"),
    "text binary": ("a.xyz", b"1 2 3\n\0\0", "binary data"),
    "text prose": ("a.txt", b"It was a dark night\n", "rows of numbers"),
    "csv columns": ("a.csv", b"a,b,c\n1,2,3\n", "has no x, y, z"),
    "obj nothing": ("a.obj", b"# no points\nvt 0 0\n", "no lines 'v x y z'"),
    "obj width": ("a.obj", b"v 0 0\n", "3 numbers each"),
    "obj ragged": ("a.obj", b"v 0 0 0\nv 0 0 0 1 1 1\n", "columns"),
    "obj words": ("a.obj", b"v 0 zero 0\n", "zero"),
    "npz": ("a.npz", b"PK\x03\x04 nothing of a zip", "cannot be read as NPZ"),
    "npz compression": ("a.npz", npz({8: 99}), "compression method is not supported"),
    "npz password": ("a.npz", npz({6: 1}), "'xyz.npy' is encrypted"),
    "npz version": ("a.npz", npz({4: 99}), "cannot be read as NPZ (zip file version 9.9)"),
    "npz text": ("a.npz", b"nothing of a zip", "cannot be read as NPZ"),
    "npy": ("a.npy", b"\x93NUMPY\x01\x00\x05\x00hello", "is no NPY array"),
    "kitti length": ("a.bin", bytes(15), "no whole number of points"),
    "kitti values": ("a.bin", b"\xff" * 32, "is no sweep"),
    "las short": ("a.las", b"LASF", "no whole LAS header"),
    "las other": ("a.las", b"hello" * 99, "no whole LAS header"),
    "las format": ("a.las", las({104: b"\x3f"}), "point format 63"),
    "las row": ("a.las", las({105: b"\x05\x00"}), "rows of 5 bytes"),
    "las truncated": ("a.las", las({}, body=19), "need 20 bytes, it has 19"),
    "las huge": ("a.las", las({107: b"\xff\xff\xff\xff"}), "truncated"),
    "las none": ("a.las", las({107: bytes(4)}), "has no points"),
    "las scale": ("a.las", las({131: bytes(8)}), "are no measures"),
    "laz huge": ("a.laz", las({104: b"\x80", 107: b"\xff\xff\xff\xff"}), "do not fit"),
    "colmap short": ("points3D.bin", b"123", "truncated"),
    "colmap huge": ("points3D.bin", struct.pack("<Q", HUGE), "says 1000000000000000 points"),
    "colmap none": ("points3D.bin", struct.pack("<Q", 0), "has no points"),
    "colmap track": ("points3D.bin", points3d(1, 2**63), "do not fill"),
    "colmap cut": ("points3D.bin", points3d(1, 2, bytes(15)), "do not fill"),
    "colmap more": ("points3D.bin", points3d(1, 0, bytes(1)), "do not fill"),
    "colmap text": ("points3D.txt", b"1 2 3\n", "cannot read the point '1 2 3'"),
    "conf nothing": ("a.conf", b"camera 0 0 0\n", "names no scan"),
    "conf line": ("a.conf", b"bmesh s.ply 0 0 0\n", "line 1: 'bmesh s.ply 0 0 0', expected"),
    "conf turn": ("a.conf", b"bmesh s.ply 0 0 0 0 0 0 0\n", "expected 'bmesh FILE"),
    "conf outside": ("a.conf", b"bmesh ../s.ply 0 0 0 0 0 0 1\n", "not beside it"),
    "gzip cut": ("a.ply.gz", gzip.compress(b"ply\n" * 99)[:-12], "truncated gzip"),
    "gzip damaged": ("a.ply", b"\x1f\x8b\x08\x00" + b"\xff" * 40, "damaged gzip"),
    "gzip bomb": ("a.xyz.gz", gzip.compress(bytes(30 << 20)), "200 times"),
    "suffix": ("a.stl", b"solid", "is no cloud; looked for"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_damage_is_one_clear_line(tmp_path: Path, case: str) -> None:
    name, data, says = BAD[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - says is looked for below
        read_cloud(tmp_path / name)
    line = str(error.value)
    assert says in line
    assert line.startswith(str(tmp_path / name))
    assert "\n" not in line
    assert len(line) < 300 + len(str(tmp_path))


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ply: no such cloud"):
        read_cloud(tmp_path / "none.ply")
    with pytest.raises(ValueError, match="is a folder without points"):
        read_cloud(tmp_path)
    (tmp_path / "a.conf").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_cloud(tmp_path / "a.conf")
    (tmp_path / "b.conf").write_text("bmesh s.ply 0 0 0 0 0 0 1\n")
    with pytest.raises(FileNotFoundError, match=r"no scan s\.ply"):
        read_cloud(tmp_path / "b.conf")


@pytest.mark.parametrize("sensor", [(1, 2), (1, 2, float("nan"))])
def test_a_sensor_is_three_numbers(tmp_path: Path, sensor: tuple[float, ...]) -> None:
    (tmp_path / "a.xyz").write_text(ROWS)
    with pytest.raises(ValueError, match="need 3 finite numbers"):
        read_cloud(tmp_path / "a.xyz", sensor)


def member(path: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as box:
        box.writestr(name, data)


def npy(shape: str, body: bytes, kind: str = "<f8") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"other.npy": npy("(1, 3)", bytes(24))}, "no array 'points'"),
        ({"points.npy": npy(f"({HUGE}, 3)", bytes(24))}, "it has 24"),
        ({"points.npy": npy("(1, 3)", bytes(24), "|O")}, "expected numbers"),
        ({"points.npy": npy("(3,)", bytes(24))}, "expected [n, 3]"),
        ({"points.npy": npy("(0, 3)", b"")}, "has no points"),
        ({"points.npy": b"hello"}, "no NPY array"),
        (
            {"points.npy": npy("(2, 3)", bytes(48)), "normals.npy": npy("(1, 3)", bytes(24))},
            "1 normals for 2 points",
        ),
        (
            {"points.npy": npy("(2, 3)", bytes(48)), "sensor.npy": npy("(1, 3)", bytes(24))},
            "the sensor has shape [1, 3], expected [3] or [2, 3]",
        ),
    ],
)
def test_damaged_npz(tmp_path: Path, members: dict[str, bytes], says: str) -> None:
    for name, data in members.items():
        member(tmp_path / "a.npz", name, data)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_cloud(tmp_path / "a.npz")
    assert says in str(error.value)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="expected numbers"):
        read_cloud(tmp_path / "a.npz")


def test_colmap_tracks_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("5 1 0 0 0 0 0 0 1 a.jpg\n\n")
    (tmp_path / "points3D.txt").write_text("1 0 0 0 1 2 3 0.5 7 0\n")
    with pytest.raises(ValueError, match="image 7 saw a point but has no pose"):
        read_cloud(tmp_path)
    (tmp_path / "points3D.txt").write_text("1 0 0 0 1 2 3 0.5\n")
    assert read_cloud(tmp_path).sensor is None
    (tmp_path / "points3D.txt").write_text("1 0 0 0 1 2 3 0.5 5 0\n")
    (tmp_path / "images.txt").write_text("5 1 0 0\n")
    with pytest.raises(ValueError, match="cannot read the image"):
        read_cloud(tmp_path)
    (tmp_path / "images.txt").unlink()
    (tmp_path / "images.bin").write_bytes(struct.pack("<Q", 1) + bytes(70))
    with pytest.raises(ValueError, match="images"):
        read_cloud(tmp_path)


@pytest.mark.parametrize("kind", ["ply", "pcd", "las", "npz", "points3D"])
def test_noise_in_a_file_never_breaks_a_reader(tmp_path: Path, kind: str) -> None:
    """Whatever bytes are changed, the answer is a cloud or a ValueError."""
    rng = np.random.default_rng(1)
    xyz = rng.normal(size=(20, 3))
    name = f"a.{kind}"
    if kind == "ply":
        data = PLY.format(LITTLE, 20).encode() + xyz.astype("<f4").tobytes()
    elif kind == "pcd":
        data = PCD.format(20, "binary").encode() + xyz.astype("<f4").tobytes()
    elif kind == "las":
        data = las({})
    elif kind == "npz":
        np.savez_compressed(tmp_path / name, points=xyz)
        data = (tmp_path / name).read_bytes()
    else:
        name, data = "points3D.bin", points3d(1, 1, bytes(8))
    told: list[str] = []
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(len(data)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            del changed[int(rng.integers(len(changed))) :]
        (tmp_path / name).write_bytes(bytes(changed))
        try:
            with np.errstate(all="ignore"):
                read_cloud(tmp_path / name)
        except (ValueError, ImportError) as error:
            told.append(f"{type(error).__name__}: {error}")
    assert told
    assert not [line for line in told if "\n" in line]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(ROWS)
    (tmp_path / "a.xyz").chmod(0)
    with pytest.raises(PermissionError, match="cannot be read"):
        read_cloud(tmp_path / "a.xyz")
