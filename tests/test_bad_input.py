"""Scenes and settings that cannot be trained: one line that says what to mend, exit 2."""

import errno
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isolux.cli import main

Mistake = Callable[[list[str]], str]


@pytest.fixture
def train_said(tmp_path: Path, tiny: tuple[str, ...], mistake: Mistake) -> Callable[..., str]:
    """Trains; gives the one line that is said, lower case; nothing of a run may be written."""

    def said(conf: str, *more: str) -> str:
        out = tmp_path / "out"
        text = mistake(["train", "--conf", conf, *tiny, f"out={out}", *more])
        assert not out.exists()
        return text.lower()

    return said


@pytest.fixture
def scene_said(own_scene: Path, train_said: Callable[..., str]) -> Callable[..., str]:
    def said(*more: str) -> str:
        return train_said("nerf_synthetic", f"data.path={own_scene}", *more)

    return said


def edit(index: Path, change: Callable[[list[dict]], object]) -> None:
    tree = json.loads(index.read_text())
    change(tree["frames"])
    index.write_text(json.dumps(tree))


def repaint(scene: Path, change: Callable[[np.ndarray], np.ndarray], views: int = 12) -> None:
    for file in sorted((scene / "train").iterdir())[:views]:
        Image.fromarray(change(np.array(Image.open(file)))).save(file)


# --- pictures


def test_a_missing_picture(own_scene: Path, scene_said: Callable[..., str]) -> None:
    for i in range(5):
        (own_scene / "train" / f"r_{i}.png").unlink()
    text = scene_said()
    assert "5 absent pictures of 12" in text
    assert "r_0.png" in text


def test_a_truncated_picture(own_scene: Path, scene_said: Callable[..., str]) -> None:
    file = own_scene / "train" / "r_3.png"
    os.truncate(file, file.stat().st_size // 2)
    assert "r_3.png" in scene_said()


def test_an_empty_file_for_a_picture(own_scene: Path, scene_said: Callable[..., str]) -> None:
    (own_scene / "train" / "r_0.png").write_bytes(b"")
    assert "r_0.png" in scene_said()


@pytest.mark.parametrize("what", ["folder", "loop"])
def test_what_is_no_file_for_a_picture(
    what: str, own_scene: Path, scene_said: Callable[..., str]
) -> None:
    file = own_scene / "train" / "r_2.png"
    file.unlink()
    if what == "folder":
        file.mkdir()
    else:
        file.symlink_to(file)
    text = scene_said()
    assert "1 absent pictures of 12" in text
    assert "r_2.png" in text


def test_odd_but_usable(
    own_scene: Path, tmp_path: Path, isolux_train: Callable[..., int]
) -> None:
    """Grey and palette pictures with alpha; blanks, quotes, signs and letters in paths."""
    for file in sorted((own_scene / "train").iterdir()):
        image = Image.open(file)
        image.convert("LA").save(file) if "1" in file.name else image.quantize(200).save(file)
    folder = own_scene.rename(tmp_path / 'a b\' "c" ${d}=ü, [1]')
    out = tmp_path / "aus gabe #1 日本"
    assert isolux_train("nerf_synthetic", out, f"data.path={folder}", "optimize.steps=2,1") == 0
    assert json.loads((out / "conf.json").read_text())["data"]["path"] == str(folder)
    assert main(["eval", "--run", str(out)]) == 0


def test_a_picture_of_another_size(own_scene: Path, scene_said: Callable[..., str]) -> None:
    file = own_scene / "train" / "r_3.png"
    Image.open(file).resize((16, 20)).save(file)
    text = scene_said()
    assert "r_3.png" in text
    assert "16x20" in text
    assert "32x32" in text


def test_no_alpha(own_scene: Path, scene_said: Callable[..., str]) -> None:
    repaint(own_scene, lambda pixels: pixels[..., :3])
    text = scene_said()
    assert "no alpha" in text
    assert "masks" in text  # how to give them


def test_masks_all_ones(own_scene: Path, scene_said: Callable[..., str]) -> None:
    repaint(own_scene, lambda pixels: pixels | np.array([0, 0, 0, 255], np.uint8))
    assert "alpha is one everywhere" in scene_said()


def test_all_masks_empty(own_scene: Path, scene_said: Callable[..., str]) -> None:
    repaint(own_scene, lambda pixels: pixels * np.array([1, 1, 1, 0], np.uint8))
    assert "alpha is zero in all 12 views" in scene_said()


def test_one_empty_mask_is_a_warning(
    own_scene: Path,
    tmp_path: Path,
    isolux_train: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    repaint(own_scene, lambda pixels: pixels * np.array([1, 1, 1, 0], np.uint8), views=1)
    more = (f"data.path={own_scene}", "optimize.steps=6,2")
    assert isolux_train("nerf_synthetic", tmp_path / "out", *more) == 0
    assert "1 of 12 masks are empty" in caplog.text
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mesh"]["triangles"] > 0


# --- cameras and the grid


def test_cameras_that_look_away(own_scene: Path, scene_said: Callable[..., str]) -> None:
    """Poses in OpenCV's axes, the common mistake."""

    def turn(frames: list[dict]) -> None:
        for frame in frames:
            pose = np.array(frame["transform_matrix"])
            frame["transform_matrix"] = (pose @ np.diag([1.0, -1, -1, 1])).tolist()

    edit(own_scene / "transforms_train.json", turn)
    assert "look away" in scene_said()


@pytest.mark.parametrize(
    "settings",
    [
        ("geometry.extent=0.9",),
        ("geometry.centre=1.5,0,0", "geometry.extent=2.2"),
        ("geometry.centre=0,0,40", "geometry.extent=2.2"),
        ("geometry.centre=0,4,0",),
    ],
)
def test_an_object_outside_the_grid(
    settings: tuple[str, ...],
    scene_folder: Path,
    train_said: Callable[..., str],
    tmp_path: Path,
    isolux_train: Callable[..., int],
) -> None:
    text = train_said("nerf_synthetic", f"data.path={scene_folder}", *settings)
    assert "object outside the grid" in text
    fitting = [word for word in text.split() if word.startswith("geometry.")]
    assert len(fitting) == 2
    more = (f"data.path={scene_folder}", "optimize.steps=2,0", *fitting)  # the remedy works
    if settings == ("geometry.extent=0.9",):
        assert isolux_train("nerf_synthetic", tmp_path / "out", *more) == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 0, 0, 0]] * 3, "transform_matrix"),
        ("none", "transform_matrix"),
        ([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 4], [0, 0, 0, 1]], "not a rigid motion"),
        ([[float("nan")] * 4] * 4, "not finite"),
    ],
)
def test_poses_that_are_none(
    rows: object, words: str, own_scene: Path, scene_said: Callable[..., str]
) -> None:
    edit(own_scene / "transforms_train.json", lambda f: f[2].update(transform_matrix=rows))
    assert words in scene_said()


def test_an_index_that_is_no_json(own_scene: Path, scene_said: Callable[..., str]) -> None:
    index = own_scene / "transforms_train.json"
    index.write_text(index.read_text()[:200])
    assert "not valid json" in scene_said()


def test_no_test_views(own_scene: Path, scene_said: Callable[..., str]) -> None:
    (own_scene / "transforms_test.json").unlink()
    assert "transforms_test.json" in scene_said()


def test_a_folder_that_is_no_scene(tmp_path: Path, train_said: Callable[..., str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "img_1.jpg").write_bytes(b"")
    text = train_said("nerf_synthetic", f"data.path={folder}", "data.kind=auto")
    assert "is no scene" in text
    assert "transforms_train.json" in text
    assert "img_1.jpg" in text


def test_a_lattice_that_is_too_small(scene_said: Callable[..., str]) -> None:
    text = scene_said("geometry.resolution=2")
    assert "geometry.resolution" in text
    assert "from 4 to 512" in text


# --- light


def test_a_kept_light_needs_a_probe(scene_said: Callable[..., str]) -> None:
    assert "light.envmap" in scene_said("light.learn=false")


@pytest.mark.parametrize("kind", ["nan", "negative", "truncated"])
def test_probes_that_cannot_be(
    kind: str, tmp_path: Path, scene_said: Callable[..., str]
) -> None:
    if kind == "truncated":
        probe = tmp_path / "probe.hdr"
        probe.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8 +X 16\n" + b"\x80" * 40)
    else:
        import OpenEXR

        probe = tmp_path / "probe.exr"
        pixels = np.ones((8, 16, 3), np.float32)
        pixels[2, 3] = np.nan if kind == "nan" else -5.0
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {"RGB": pixels}) as file:
            file.write(str(probe))
    text = scene_said(f"light.envmap={probe}")
    assert probe.name in text
    assert {"nan": "not finite", "negative": "negative", "truncated": "truncated"}[kind] in text


# --- reference meshes

CUBE = """mtllib cube.mtl
v -1 -1 -1
v 1 -1 -1
v 1 1 -1
v -1 1 -1
v -1 -1 1
v 1 -1 1
v 1 1 1
v -1 1 1
usemtl paint
"""
QUADS = ((4, 3, 2, 1), (5, 6, 7, 8), (1, 2, 6, 5), (2, 3, 7, 6), (3, 4, 8, 7), (4, 1, 5, 8))


def face(corners: tuple[int, ...], negative: bool = False) -> str:
    return "f " + " ".join(str(c - 9 if negative else c) for c in corners) + "\n"


@pytest.fixture
def mesh_settings(tmp_path: Path) -> tuple[str, ...]:
    probe = tmp_path / "sky.hdr"
    rows = b"\x80\x80\x80\x81" * 128
    probe.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8 +X 16\n" + rows)
    path = f"data.path={tmp_path / 'cube.obj'}"
    more = ("optimize.steps=2,1", "data.train_views=6", "data.camera_distance=5")
    return (path, "data.kind=mesh", f"data.envmap={probe}", *more)


@pytest.mark.parametrize("negative", [False, True])
def test_an_obj_of_quads_alone_is_fine(
    negative: bool,
    tmp_path: Path,
    mesh_settings: tuple[str, ...],
    isolux_train: Callable[..., int],
) -> None:
    """No texture coordinates, no normals, quads, indices from the end, no MTL."""
    (tmp_path / "cube.obj").write_text(CUBE + "".join(face(q, negative) for q in QUADS))
    assert isolux_train("spot", tmp_path / "out", *mesh_settings) == 0
    surface = json.loads((tmp_path / "out" / "metrics.json").read_text())["surface"]
    assert surface["reference_diagonal"] == pytest.approx(12**0.5, rel=1e-5)


def test_a_missing_texture_is_a_warning(
    tmp_path: Path,
    mesh_settings: tuple[str, ...],
    isolux_train: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cube.obj").write_text(CUBE + "".join(face(q) for q in QUADS))
    (tmp_path / "cube.mtl").write_text("newmtl paint\nmap_Kd gone.png\n")
    assert isolux_train("spot", tmp_path / "out", *mesh_settings) in (0, 2)
    assert "gone.png" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CUBE, "no faces"),
        (CUBE + "f 1 2 99\n", "99"),
        (CUBE + "f 1 2 x\n", "cube.obj"),
        (CUBE.replace("v 1 1 1\n", "v 1 nan 1\n") + face(QUADS[1]), "finite"),
        ("", "cube.obj"),
    ],
    ids=["zero faces", "out of range", "garbage", "nan", "empty file"],
)
def test_an_obj_that_is_none(
    text: str,
    words: str,
    tmp_path: Path,
    mesh_settings: tuple[str, ...],
    train_said: Callable[..., str],
) -> None:
    (tmp_path / "cube.obj").write_text(text)
    said = train_said("spot", *mesh_settings)
    assert words in said
    assert "cube.obj" in said or "cube" in said


# --- the run folder


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written(
    tmp_path: Path, scene_folder: Path, tiny: tuple[str, ...], mistake: Mistake
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    out = f"out={tmp_path / 'locked' / 'run'}"
    told = mistake(
        ["train", "--conf", "nerf_synthetic", *tiny, f"data.path={scene_folder}", out]
    )
    assert "cannot be written" in told


def test_an_output_folder_that_the_system_refuses(
    tmp_path: Path,
    tiny: tuple[str, ...],
    mistake: Mistake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For root too: a read-only file system answers when the folder is made."""
    make = Path.mkdir

    def mkdir(path: Path, *given: object, **named: object) -> None:
        if path.is_relative_to(tmp_path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    told = mistake(["train", "--conf", "demo", *tiny, f"out={tmp_path / 'run'}"])
    assert "cannot be written" in told
    assert "out=" in told


@pytest.mark.parametrize("where", ["loop", "loop/run", "file/run"])
def test_an_output_folder_that_cannot_be_made(
    where: str, tmp_path: Path, tiny: tuple[str, ...], mistake: Mistake
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("kept")
    assert str(tmp_path) in mistake(
        ["train", "--conf", "demo", *tiny, f"out={tmp_path / where}"]
    )
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("conf.json", "conf.json: no valid JSON"),
        ("metrics.json", "metrics.json: is no JSON"),
        ("checkpoints", "holds no checkpoint that can be read"),
    ],
)
def test_a_run_whose_files_are_damaged(
    file: str,
    says: str,
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    mistake: Mistake,
) -> None:
    out = tmp_path / "run"
    more = (f"data.path={scene_folder}", "optimize.steps=1,1")
    assert isolux_train("nerf_synthetic", out, *more) == 0
    damaged = list((out / file).iterdir()) if (out / file).is_dir() else [out / file]
    for path in damaged:
        path.write_bytes(b"{" * 3000)
    others = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p not in damaged}
    assert says in mistake(["eval", "--run", str(out)])
    assert all(path.read_bytes() == before for path, before in others.items())


@pytest.mark.parametrize("what", ["save_file", "write_glb", "append_line"])
def test_a_full_disk_keeps_the_last_checkpoint(
    what: str,
    tmp_path: Path,
    scene_folder: Path,
    tiny: tuple[str, ...],
    mistake: Mistake,
    isolux_train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from isolux.optimize import checkpoint, finish, observers

    module = {"save_file": checkpoint, "write_glb": finish, "append_line": observers}[what]
    original, calls = getattr(module, what), [0]

    def write(*given: object) -> object:
        calls[0] += 1
        if calls[0] >= {"save_file": 3, "write_glb": 1, "append_line": 5}[what]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))
        return original(*given)

    out = tmp_path / "run"
    scene = (f"data.path={scene_folder}", "observe.checkpoint_every=4", "optimize.steps=10,10")
    scene = (*scene, "observe.log_every=2")
    with monkeypatch.context() as patch:
        patch.setattr(module, what, write)
        told = mistake(["train", "--conf", "nerf_synthetic", *tiny, *scene, f"out={out}"])
    assert "No space left" in told
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept
    assert all(name.endswith(".safetensors") for name in kept)
    assert isolux_train("nerf_synthetic", out, *scene, "--resume") == 0
    assert (out / "mesh" / "mesh.glb").exists()


def test_a_run_that_has_no_mesh_yet(
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    mistake: Mistake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from isolux.optimize import stages

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stages, "unwrap", stop)
        scene = (f"data.path={scene_folder}", "optimize.steps=2,2")
        assert isolux_train("nerf_synthetic", out, *scene) == 130
    told = mistake(["export", "--run", str(out), "-o", str(tmp_path / "mesh.glb")])
    assert "topology stage" in told
    assert "--resume" in told
    assert "--resume" in mistake(["eval", "--run", str(out)])
    for file in (out / "checkpoints").iterdir():
        file.unlink()
    assert "no checkpoint" in mistake(["eval", "--run", str(out)])


def test_data_that_are_gone_when_a_run_is_measured(
    tmp_path: Path, own_scene: Path, isolux_train: Callable[..., int], mistake: Mistake
) -> None:
    out = tmp_path / "run"
    more = (f"data.path={own_scene}", "optimize.steps=1,1")
    assert isolux_train("nerf_synthetic", out, *more) == 0
    before = (out / "metrics.json").read_bytes()
    shutil.rmtree(own_scene)
    assert "scene" in mistake(["eval", "--run", str(out)])
    assert (out / "metrics.json").read_bytes() == before
    assert main(["export", "--run", str(out), "-o", str(tmp_path / "mesh.glb")]) == 0


def test_the_size_of_a_picture_that_lies(
    own_scene: Path, scene_said: Callable[..., str]
) -> None:
    """A PNG whose header promises 60000 x 60000 pixels does not take the memory."""
    file = own_scene / "train" / "r_0.png"
    data = bytearray(file.read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    file.write_bytes(bytes(data))
    assert "r_0.png" in scene_said()
