"""Small files that tests of loaders begin from."""

import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.data.assets.textures import MeshAsset, TextureSet
from isolux.geometry.mesh import Mesh


def png_bytes(values: np.ndarray) -> bytes:
    """A PNG of our own making: 8 or 16 bits, one to four channels, all five filters in turn."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    step = channels * values.dtype.itemsize
    lines, above = [], np.zeros(rows.shape[1], np.int64)
    for number, row in enumerate(rows.astype(np.int64)):
        left = np.concatenate([np.zeros(step, np.int64), row[:-step]])
        corner = np.concatenate([np.zeros(step, np.int64), above[:-step]])
        base = left + above - corner
        paeth = np.where(
            (abs(base - left) <= abs(base - above)) & (abs(base - left) <= abs(base - corner)),
            left,
            np.where(abs(base - above) <= abs(base - corner), above, corner),
        )
        guess = [0 * row, left, above, (left + above) // 2, paeth][number % 5]
        lines.append(bytes([number % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes())
        above = row

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, kind, 0, 0, 0)
    body = zlib.compress(b"".join(lines))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.fixture
def write_png():
    """Writes integers [h, w, c] as a PNG."""

    def write(path: Path, values: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(values))
        return path

    return write


def disc(size: int = 8, channels: int = 4) -> np.ndarray:
    """A covered block in the middle of nothing."""
    values = np.zeros((size, size, channels), np.uint8)
    values[2:-2, 2:-2] = (255, 128, 0, 255)[:channels]
    return values


def looking_back(angle: float) -> list[list[float]]:
    """Blender's pose of a camera on a circle in the xy plane that looks at the origin."""
    c, s = math.cos(angle), math.sin(angle)
    # columns: right, up (+z), backwards (away from the origin), place
    return [[-s, 0.0, c, 4 * c], [c, 0.0, s, 4 * s], [0.0, 1.0, 0.0, 0.0], [0, 0, 0, 1]]


@pytest.fixture
def make_scene(tmp_path: Path, write_png):
    """A NeRF-synthetic folder; `change` edits the tree of its index before it is written."""

    def make(change=lambda tree: None, count: int = 3, picture=disc) -> Path:
        frames = []
        for i in range(count):
            write_png(tmp_path / "train" / f"r_{i}.png", picture())
            frames.append(
                {"file_path": f"./train/r_{i}", "transform_matrix": looking_back(2.0 * i)}
            )
        tree = {"camera_angle_x": 0.8, "frames": frames}
        change(tree)
        (tmp_path / "transforms_train.json").write_text(json.dumps(tree))
        return tmp_path

    return make


@pytest.fixture
def textured_cube() -> MeshAsset:
    """A cube whose faces share positions but not texture coordinates, with all textures."""
    corner = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    uvs, uv_faces = [], []
    for i in range(6):
        x, y, n = (i % 3) / 3, (i // 3) / 2, 4 * i
        uvs += [
            (x + 0.02, y + 0.48),
            (x + 0.31, y + 0.48),
            (x + 0.31, y + 0.02),
            (x + 0.02, y + 0.02),
        ]
        uv_faces += [(n, n + 1, n + 2), (n, n + 2, n + 3)]
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 256, (16, 24, 6), generator=generator) / 255.0
    tilt = torch.rand(16, 24, 2, generator=generator) - 0.5
    normal = torch.cat([tilt, torch.ones(16, 24, 1)], dim=-1)
    return MeshAsset(
        Mesh(
            corner,
            torch.tensor(faces, dtype=torch.int32),
            torch.tensor(uvs),
            torch.tensor(uv_faces, dtype=torch.int32),
        ),
        TextureSet(bits[..., :3], bits[..., 3:], torch.nn.functional.normalize(normal, dim=-1)),
        "cube",
    )
