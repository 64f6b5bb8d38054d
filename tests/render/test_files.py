"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from isolux.render.files import write_bytes


def test_folders_are_made_and_nothing_is_left_over(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b.bin", b"one")
    write_bytes(tmp_path / "a" / "b.bin", b"two")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"two"
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_failure_names_the_file_and_keeps_the_old_one(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(OSError, match=r"f/g: cannot be written") as caught:
        write_bytes(tmp_path / "f" / "g", b"new")
    assert "\n" not in str(caught.value)

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="f: cannot be written: No space left on device"):
        write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
