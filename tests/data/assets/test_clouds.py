"""Clouds of every format that the test itself writes come back as they were."""

import gzip
import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.data.assets.clouds import read_cloud, read_scans
from isolux.data.assets.lzf import decompress
from isolux.data.assets.ply import read_ply, write_ply
from isolux.geometry.mesh import Mesh, face_normals
from isolux.render.colour import linear_from_srgb

COUNT = 200
RNG = np.random.default_rng(0)
# A survey's coordinates: in single precision they would be half a metre apart.
XYZ = RNG.uniform(0, 100, (COUNT, 3)) + np.array([5.127e5, 5.4035e6, 300.0])
NORMALS = RNG.normal(size=(COUNT, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
COLORS = RNG.integers(0, 256, (COUNT, 3)).astype(np.uint8)
LINEAR = linear_from_srgb(torch.from_numpy(COLORS.astype(np.float32) / 255))


def lzf(data: bytes) -> bytes:
    """Literal runs, and references where three bytes or more repeat at one distance."""
    out, run, at = bytearray(), bytearray(), 0

    def flush() -> None:
        for start in range(0, len(run), 32):
            part = run[start : start + 32]
            out.extend(bytes([len(part) - 1]) + part)
        run.clear()

    while at < len(data):
        best, back = 0, 0
        for distance in (1, 2, 4, 8, 100, 5000):
            length = 0
            while (
                distance <= at
                and at + length < len(data)
                and length < 264
                and data[at + length] == data[at + length - distance]
            ):
                length += 1
            if length > best:
                best, back = length, distance - 1
        if best < 3:
            run.append(data[at])
            at += 1
            continue
        flush()
        if best < 9:
            out.append((best - 2) << 5 | back >> 8)
        else:
            out.extend([7 << 5 | back >> 8, best - 9])
        out.append(back & 255)
        at += best
    flush()
    return bytes(out)


def ply(
    kind: str, order: str, body: Callable[[np.ndarray], bytes], real: str, name: str
) -> bytes:
    row = np.dtype(
        [(n, order + real) for n in ("x", "y", "z", "nx", "ny", "nz")]
        + [(n, "u1") for n in ("red", "green", "blue", "alpha")]
    )
    table = np.zeros(COUNT, row)
    for i, n in enumerate(("x", "y", "z")):
        table[n], table["n" + n] = XYZ[:, i], NORMALS[:, i]
        table[("red", "green", "blue")[i]] = COLORS[:, i]
    lines = [f"property {name} {n}" for n in row.names[:6]]
    lines += [f"property uchar {n}" for n in row.names[6:]]
    head = ["ply", f"format {kind} 1.0", "comment made here", "obj_info nothing"]
    head += [f"element vertex {COUNT}", *lines]
    head += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(head).encode() + body(table)


def text_rows(table: np.ndarray) -> bytes:
    return "".join(" ".join(repr(v.item()) for v in row) + "\n" for row in table).encode()


def check(cloud, exact: bool = True) -> None:
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=0, atol=0 if exact else 0.5)
    assert cloud.xyz.dtype == torch.float64
    torch.testing.assert_close(cloud.normals, torch.from_numpy(NORMALS).float())
    torch.testing.assert_close(cloud.colors, LINEAR)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "order"),
    [("binary_little_endian", "<"), ("binary_big_endian", ">"), ("ascii", "<")],
)
@pytest.mark.parametrize(("real", "name"), [("f8", "double"), ("f4", "float32")])
def test_ply(tmp_path: Path, kind: str, order: str, real: str, name: str, packed: bool) -> None:
    body = text_rows if kind == "ascii" else lambda table: table.tobytes()
    data = ply(kind, order, body, real, name)
    path = tmp_path / ("a.ply.gz" if packed else "a.ply")
    path.write_bytes(gzip.compress(data) if packed else data)
    check(read_cloud(path), exact=real == "f8")


def test_ply_of_integers_and_of_old_line_ends(tmp_path: Path) -> None:
    head = "ply\nformat ascii 1.0\nelement vertex 2\nproperty int x\nproperty short y\n"
    text = head + "property uchar z\nend_header\n1 -2 3\n100000 5 6\n"
    for number, end in enumerate(("\n", "\r\n", "\r")):
        (tmp_path / f"{number}.ply").write_bytes(text.replace("\n", end).encode())
        got = read_cloud(tmp_path / f"{number}.ply")
        assert got.xyz.tolist() == [[1, -2, 3], [100000, 5, 6]]
        assert got.normals is None
        assert got.colors is None


@pytest.mark.parametrize("binary", [False, True])
def test_ply_lists_are_passed_over_wherever_they_stand(tmp_path: Path, binary: bool) -> None:
    kind = "binary_big_endian" if binary else "ascii"
    head = (
        f"ply\nformat {kind} 1.0\nelement range_grid 2\nproperty list uchar int at\n"
        "element camera 1\nproperty float fov\nelement vertex 2\nproperty float x\n"
        "property list short double extra\nproperty float y\nproperty float z\nend_header\n"
    )
    body = b"0\n1 7\n45\n1 2 9.5 9.5 2 3\n4 0 5 6\n"
    if binary:
        body = struct.pack(">BBif", 0, 1, 7, 45.0)
        body += struct.pack(">fhddff", 1, 2, 9.5, 9.5, 2, 3) + struct.pack(">fhff", 4, 0, 5, 6)
    (tmp_path / "a.ply").write_bytes(head.encode() + body)
    assert read_cloud(tmp_path / "a.ply").xyz.tolist() == [[1, 2, 3], [4, 5, 6]]


def pcd(data: str, rgb: str, points: int = COUNT) -> bytes:
    packed = (COLORS.astype(np.uint32) * [65536, 256, 1]).sum(1).astype(np.uint32)
    columns = [*XYZ.T.astype("<f8"), *NORMALS.T.astype("<f4"), np.zeros((COUNT, 3), "u1")]
    columns.append(packed.view("<f4") if rgb == "F" else packed)
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z normal_x normal_y normal_z _ rgb\n"
        f"SIZE 8 8 8 4 4 4 1 4\nTYPE F F F F F F U {rgb}\nCOUNT 1 1 1 1 1 1 3 1\n"
        f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
    )
    if data == "ascii":
        rows = zip(*[c.tolist() for c in columns], strict=True)
        text = [" ".join(f"{v:.17g}" for part in row for v in np.ravel(part)) for row in rows]
        return (head + "\n".join(text) + "\n").encode()
    if data == "binary":
        rows = [
            b"".join(np.ascontiguousarray(c[i]).tobytes() for c in columns)
            for i in range(COUNT)
        ]
        return head.encode() + b"".join(rows)
    plain = b"".join(np.ascontiguousarray(c).tobytes() for c in columns)
    made = lzf(plain)
    assert len(made) < len(plain)
    return head.encode() + struct.pack("<II", len(made), len(plain)) + made


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("rgb", ["F", "U"])
def test_pcd(tmp_path: Path, data: str, rgb: str) -> None:
    (tmp_path / "a.pcd").write_bytes(pcd(data, rgb))
    cloud = read_cloud(tmp_path / "a.pcd")
    check(cloud)
    assert cloud.sensor is not None
    assert (cloud.sensor == torch.tensor([1.0, 2.0, 3.0])).all()


def test_the_default_viewpoint_of_a_pcd_says_nothing_but_of_a_picture(tmp_path: Path) -> None:
    head = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nHEIGHT {}\nDATA ascii\n"
    (tmp_path / "a.pcd").write_text(head.format(1) + "1 2 3\n4 5 6\n")
    assert read_cloud(tmp_path / "a.pcd").sensor is None
    (tmp_path / "b.pcd").write_text(head.format(2) + "1 2 3\nnan nan nan\n" * 2)
    cloud = read_cloud(tmp_path / "b.pcd")
    assert cloud.sensor is not None
    assert (cloud.sensor == 0).all()
    assert cloud.xyz.isnan().any(1).tolist() == [False, True, False, True]
    named = read_cloud(tmp_path / "a.pcd", sensor=(1, 2, 3)).sensor
    assert named is not None
    assert named.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_lzf_of_all_kinds_of_runs() -> None:
    for data in (b"a", b"ab" * 700, bytes(5000), RNG.bytes(9000), RNG.bytes(5000) * 3):
        assert decompress(lzf(data), len(data)) == data


@pytest.mark.parametrize(
    ("name", "gap", "head"),
    [
        ("a.xyz", " ", ""),
        ("a.txt", "\t", "# made here\n\n"),
        ("a.csv", ",", "x,y,z,nx,ny,nz,red,green,blue\n"),
        ("a.csv", ", ", '"X","Y","Z","NX","NY","NZ","R","G","B"\n'),
        ("a.asc", ";", "//X Y Z Nx Ny Nz R G B\n"),
        ("a.pts", " ", f"{COUNT}\n"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text(tmp_path: Path, name: str, gap: str, head: str, end: str) -> None:
    table = np.concatenate([XYZ, NORMALS, COLORS], axis=1).tolist()
    text = head + "".join(gap.join(map(repr, row)) + "\n" for row in table) + "\n"
    (tmp_path / name).write_bytes(text.replace("\n", end).encode())
    check(read_cloud(tmp_path / name))


@pytest.mark.parametrize("width", [3, 4, 6, 7, 9])
def test_columns_without_names_are_told_by_their_values(tmp_path: Path, width: int) -> None:
    level = RNG.uniform(-2000, 2000, (COUNT, 1))
    parts = {
        3: [[XYZ]],
        4: [[XYZ, level]],
        6: [[XYZ, NORMALS], [XYZ, COLORS], [XYZ, COLORS / 255]],
        7: [
            [XYZ, level, COLORS],
            [XYZ, COLORS, np.full((COUNT, 1), 255)],
            [XYZ, NORMALS, level],
        ],
        9: [[XYZ, NORMALS, COLORS], [XYZ, COLORS, NORMALS]],
    }[width]
    for columns in parts:
        np.savetxt(tmp_path / "a.xyz", np.concatenate(columns, axis=1), "%.17g")
        cloud = read_cloud(tmp_path / "a.xyz")
        assert (cloud.xyz.numpy() == XYZ).all()
        if any(part is NORMALS for part in columns):
            torch.testing.assert_close(cloud.normals, torch.from_numpy(NORMALS).float())
        else:
            assert cloud.normals is None
        if len(columns) > 1 and (width == 9 or any(part is COLORS for part in columns)):
            torch.testing.assert_close(cloud.colors, LINEAR)


def test_obj(tmp_path: Path) -> None:
    rows = np.concatenate([XYZ, COLORS / 255], axis=1).tolist()
    text = "# made here\n" + "".join("v " + " ".join(map(repr, row)) + "\n" for row in rows)
    normals = "".join("vn " + " ".join(map(repr, row)) + "\n" for row in NORMALS.tolist())
    (tmp_path / "a.obj").write_text(text + normals + "f 1//1 2//2 3//3\n")
    check(read_cloud(tmp_path / "a.obj"))
    (tmp_path / "b.obj").write_text(text + normals + "f 1//2 2//3 3//4\n")
    assert read_cloud(tmp_path / "b.obj").normals is None  # one a corner, not one a point


@pytest.mark.parametrize("keys", [("points", "normals", "colors"), ("x", "n", "rgb")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, keys: tuple[str, ...], save: Callable[..., None]) -> None:
    arrays = dict(zip(keys, (XYZ, np.asfortranarray(NORMALS), COLORS), strict=True))
    save(tmp_path / "a.npz", sensor=np.array([1.0, 2, 3]), **arrays)
    cloud = read_cloud(tmp_path / "a.npz")
    check(cloud)
    assert cloud.sensor is not None
    assert cloud.sensor[7].tolist() == [1, 2, 3]
    np.save(tmp_path / "a.npy", np.concatenate([XYZ, NORMALS], axis=1))
    assert (read_cloud(tmp_path / "a.npy").xyz.numpy() == XYZ).all()


def test_kitti(tmp_path: Path) -> None:
    points = RNG.normal(size=(50, 4)).astype("<f4")
    (tmp_path / "0.bin").write_bytes(points.tobytes())
    cloud = read_cloud(tmp_path / "0.bin")
    assert (cloud.xyz.numpy() == points[:, :3]).all()
    assert cloud.sensor is not None
    assert (cloud.sensor == 0).all()


def las(kind: int, minor: int = 2, extra: int = 3) -> bytes:
    rows = {0: 20, 2: 26, 3: 34, 6: 30, 7: 36}[kind]
    head = bytearray(375 if minor == 4 else 227)
    head[:4], head[24], head[25], head[104] = b"LASF", 1, minor, kind
    struct.pack_into("<HIIBHI", head, 94, len(head), len(head), 0, kind, rows + extra, COUNT)
    struct.pack_into("<6d", head, 131, 1e-3, 1e-3, 1e-3, 5e5, 5.4e6, 0)
    if minor == 4:
        struct.pack_into("<I", head, 107, 0)
        struct.pack_into("<Q", head, 247, COUNT)
    body = np.zeros((COUNT, rows + extra), np.uint8)
    whole = np.rint((XYZ - [5e5, 5.4e6, 0]) / 1e-3).astype("<i4")
    body[:, :12] = whole.view(np.uint8).reshape(COUNT, 12)
    if kind in (2, 3, 7):
        at = {2: 20, 3: 28, 7: 30}[kind]
        wide = (COLORS.astype("<u2") * 257).view(np.uint8)
        body[:, at : at + 6] = wide.reshape(COUNT, 6)
    return bytes(head) + body.tobytes()


@pytest.mark.parametrize(("kind", "minor"), [(0, 0), (2, 2), (3, 2), (6, 4), (7, 4)])
def test_las(tmp_path: Path, kind: int, minor: int) -> None:
    (tmp_path / "a.las").write_bytes(las(kind, minor))
    cloud = read_cloud(tmp_path / "a.las")
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=0, atol=0.00051)
    if kind in (2, 3, 7):
        torch.testing.assert_close(cloud.colors, LINEAR)
    else:
        assert cloud.colors is None


def test_laz_names_the_package_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lazrs", None)
    data = bytearray(las(3))
    data[104] |= 128
    (tmp_path / "a.laz").write_bytes(bytes(data))
    with pytest.raises(ImportError, match=r"isolux\[las\]"):
        read_cloud(tmp_path / "a.laz")


def test_laz(tmp_path: Path) -> None:
    lazrs = pytest.importorskip("lazrs", reason="the package lazrs is not installed")
    record = lazrs.LazVlr.new_for_compression(3, 0)
    plain, stream = las(3, extra=0), io.BytesIO()
    compressor = lazrs.LasZipCompressor(stream, record)
    compressor.compress_many(np.frombuffer(plain, np.uint8, offset=227))
    compressor.done()
    details = record.record_data()
    extra = struct.pack("<H16sHH32s", 0, b"laszip encoded", 22204, len(details), b"") + details
    head = bytearray(plain[:227])
    struct.pack_into("<II", head, 96, 227 + len(extra), 1)
    head[104] |= 128
    body = bytearray(stream.getvalue())
    # The offset of the table of chunks counts from the file's beginning.
    offset = struct.unpack_from("<q", body)[0]
    struct.pack_into("<q", body, 0, offset + 227 + len(extra))
    (tmp_path / "a.laz").write_bytes(bytes(head) + extra + bytes(body))
    np.testing.assert_allclose(read_cloud(tmp_path / "a.laz").xyz, XYZ, rtol=0, atol=0.00051)


def test_scans_are_turned_the_way_their_file_means(tmp_path: Path) -> None:
    """A quarter turn about z, told by the inverse rotation's quaternion."""
    np.savetxt(tmp_path / "s.xyz", [[1, 0, 0], [0, 0, 2]])
    half = 0.5**0.5
    (tmp_path / "a.conf").write_text(
        f"camera 0 0 0 0 0 0 1\nbmesh s.xyz 10 0 0 0 0 {-half} {half}\n\n"
        "bmesh s.xyz 0 0 0 0 1 0 0\n"
    )
    for cloud in (read_scans(tmp_path / "a.conf"), read_cloud(tmp_path / "a.conf")):
        expected = [[10.0, 1, 0], [10, 0, 2], [-1, 0, 0], [0, 0, -2]]
        np.testing.assert_allclose(cloud.xyz, expected, atol=1e-12)
        assert cloud.sensor is not None
        ray = (cloud.sensor - cloud.xyz).numpy()
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        np.testing.assert_allclose(ray, [[0, 0, 1]] * 2 + [[0, 0, -1]] * 2, atol=1e-12)


def colmap(folder: Path, binary: bool) -> None:
    """Two points on x, seen from +x by images 3 and 9; the first by 5 from the side too."""
    identity = (1.0, 0.0, 0.0, 0.0)
    half = 0.5**0.5
    poses = {3: (*identity, -5.0, 0.0, 0.0), 5: (*identity, 0.0, -5.0, 0.0)}
    # Camera 9 is turned about z: its centre is -R^T t = (6, 0, 0).
    poses[9] = (half, 0.0, 0.0, half, 0.0, -6.0, 0.0)
    tracks = {7: ((1.0, 0, 0), (3, 5, 9)), 2: ((0.5, 0.5, 0), (9, 3))}
    if binary:
        data = struct.pack("<Q", 3)
        for number, pose in poses.items():
            data += struct.pack("<I7dI", number, *pose, 1) + b"name.jpg\0"
            data += struct.pack("<Q", 2) + bytes(48)
        (folder / "images.bin").write_bytes(data)
        data = struct.pack("<Q", 2)
        for number, (place, seen) in tracks.items():
            data += struct.pack("<Q3d3BdQ", number, *place, 255, 0, 128, 0.5, len(seen))
            data += b"".join(struct.pack("<II", image, 0) for image in seen)
        (folder / "points3D.bin").write_bytes(data)
        return
    lines = ["# made here"]
    for number, pose in poses.items():
        lines += [f"{number} {' '.join(map(repr, pose))} 1 name.jpg", ""]
    (folder / "images.txt").write_text("\n".join(lines))
    lines = ["# made here"]
    for number, (place, seen) in tracks.items():
        pairs = " ".join(f"{image} 0" for image in seen)
        lines.append(f"{number} {place[0]} {place[1]} {place[2]} 255 0 128 0.5 {pairs}")
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("binary", [False, True])
def test_colmap(tmp_path: Path, binary: bool) -> None:
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    colmap(folder, binary)
    file = folder / ("points3D.bin" if binary else "points3D.txt")
    for path in (tmp_path, folder, file):
        cloud = read_cloud(path)
        assert cloud.xyz.tolist() == [[1, 0, 0], [0.5, 0.5, 0]]
        assert cloud.sensor is not None
        # Of the first's, image 3 is nearest to the middle of the three directions.
        assert cloud.sensor[0].abs().sum() in (5.0, pytest.approx(6.0))
        assert cloud.sensor[0, 0] > 4.9
        assert cloud.sensor[1, 0] > 4.9
        expected = linear_from_srgb(torch.tensor([[1.0, 0, 128 / 255]] * 2))
        torch.testing.assert_close(cloud.colors, expected)
    (folder / ("images.bin" if binary else "images.txt")).unlink()
    assert read_cloud(tmp_path).sensor is None


def test_a_written_mesh_keeps_a_surveys_digits_and_colours(tmp_path: Path) -> None:
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32)
    survey = Mesh(torch.from_numpy(XYZ), faces)
    write_ply(tmp_path / "a.ply", survey, LINEAR)
    cloud = read_cloud(tmp_path / "a.ply")
    assert (cloud.xyz.numpy() == XYZ).all()
    torch.testing.assert_close(cloud.colors, LINEAR, atol=1e-6, rtol=0)
    assert cloud.normals is not None
    expected = face_normals(survey.vertices, faces)[0]
    torch.testing.assert_close(
        cloud.normals[0].double(), expected / expected.norm(), atol=1e-6, rtol=0
    )
    again = read_ply(tmp_path / "a.ply").mesh
    assert (again.faces == faces).all()
    for colors, says in ((LINEAR[:5], "5 colours"), (LINEAR * float("nan"), "not finite")):
        with pytest.raises(ValueError, match=says):
            write_ply(tmp_path / "b.ply", survey, colors)
    assert not (tmp_path / "b.ply").exists()
