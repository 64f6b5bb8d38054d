"""A file is whole or not there, and a run folder is not overwritten by mistake."""

import json
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from isolux.optimize.files import RunFolder, write_json
from isolux.render.files import replacing, write_bytes, write_text

FullDisk = Callable[[int], AbstractContextManager[None]]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "name.txt"
    write_text(path, "first")
    write_text(path, "zweite ä")
    assert path.read_text(encoding="utf-8") == "zweite ä"
    assert [p.name for p in path.parent.iterdir()] == ["name.txt"]


def test_who_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    """The new one is another file, put in its place at once."""
    write_bytes(tmp_path / "a", b"old")
    with (tmp_path / "a").open("rb") as file:
        write_bytes(tmp_path / "a", b"new content")
        assert file.read() == b"old"


def test_others_may_read_as_the_mask_says(tmp_path: Path) -> None:
    """A temporary file made by tempfile would be readable by its owner only."""
    write_bytes(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert len(modes) == 1


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mesh.glb"
    write_bytes(path, b"old")

    def write() -> None:
        with replacing(path) as partial:
            assert partial.suffix == ".glb"
            partial.write_bytes(b"new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_line(tmp_path: Path, full_disk: FullDisk) -> None:
    path = tmp_path / "big"
    write_bytes(path, b"old")
    with full_disk(1000), pytest.raises(OSError, match="cannot be written") as caught:
        write_bytes(path, bytes(100_000))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_infinity(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x/y"), "psnr": 30.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "x/y", "psnr": 30.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"psnr": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text())["psnr"] == 30.5


def test_a_second_run_is_refused_unless_it_resumes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({"seed": 1})
    folder.create({"seed": 2})  # nothing was reached yet: taken over
    (folder.checkpoints / "000001_mesh_000010.safetensors").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="--resume"):
        folder.create({"seed": 3})
    assert folder.read_json(folder.conf) == {"seed": 2}
    folder.create({"seed": 2}, resume=True)


def test_leftovers_of_a_kill_are_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create({})
    with replacing(folder.mesh / "a.png") as partial:
        partial.write_bytes(b"whole")
    orphan = folder.mesh / f"{partial.stem}x.png"  # a kill runs no clean-up
    (folder.mesh / "a.png").rename(orphan)
    (folder.checkpoints / ".tmpAbCdEf").write_bytes(b"as safetensors leaves")
    folder.create({})
    assert list(folder.checkpoints.iterdir()) == []
    assert not orphan.exists()


def test_resuming_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="without --resume"):
        RunFolder(tmp_path / "none").create({}, resume=True)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        RunFolder(tmp_path / "file").create({})
    with pytest.raises(OSError, match=r"cannot be written.*out=") as caught:
        RunFolder(tmp_path / "file" / "run").create({})
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="out="):
            RunFolder(tmp_path / "run").create({})
    finally:
        tmp_path.chmod(0o700)


def test_a_broken_json_file_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_json(folder.metrics) == {}
    for text in ("{", "[1]"):
        folder.metrics.write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.json"):
            folder.read_json(folder.metrics)
