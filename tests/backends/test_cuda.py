"""What of the CUDA path can be checked without a device: that its text compiles everywhere."""

from pathlib import Path
from threading import Barrier

import pytest
import torch

from isolux.backends.cuda import launch, nvrtc

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


@pytest.fixture
def compiler() -> None:
    if reason := nvrtc.available():
        pytest.skip(reason)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("file", launch.FILES)
@pytest.mark.usefixtures("compiler")
def test_it_compiles_without_a_warning(file: str, real: str, architecture: str) -> None:
    options = launch.options_of(file)
    text = launch.source(file, real)
    cubin, said = nvrtc.compile_text(text, f"{file}.cu", architecture, options)
    assert said == ""
    assert cubin.startswith(b"\x7fELF")


@pytest.mark.usefixtures("compiler")
def test_what_the_compiler_says_is_told() -> None:
    with pytest.raises(nvrtc.CompileError, match=r"bad\.cu.*\n?.*identifier"):
        nvrtc.compile_text("__device__ int x = unknown;", "bad.cu", "sm_90")


@pytest.mark.usefixtures("compiler")
def test_an_unknown_architecture() -> None:
    with pytest.raises(nvrtc.CompileError, match="does not know sm_999"):
        nvrtc.compile_text("", "any.cu", "sm_999")


@pytest.mark.usefixtures("compiler")
def test_machine_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "cache_directory", lambda: tmp_path)
    text = launch.source("interpolate", "float")
    first = launch._cubin(text, "interpolate", "sm_90")
    monkeypatch.setattr(nvrtc, "compile_text", None)
    assert launch._cubin(text, "interpolate", "sm_90") == first
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("folder", [None, Path("/proc/nowhere")])
@pytest.mark.usefixtures("compiler")
def test_a_cache_that_cannot_be_written(
    folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "cache_directory", lambda: folder)
    text = launch.source("interpolate", "float")
    assert launch._cubin(text, "interpolate", "sm_90").startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.zeros(2), 3), "takes 7 arguments"),
        ((torch.zeros(1, dtype=torch.int64), *[None] * 4, 1, 1), "argument 0: a tensor of"),
        ((torch.zeros(4, 4).T, *[None] * 4, 1, 1), "contiguous"),
        ((torch.zeros(1), *[None] * 4, 1 << 31, 1), "does not fit in 32 bits"),
        ((torch.zeros(1), *[None] * 4, None, 1), "a number is needed"),
    ],
)
def test_arguments_are_checked(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        launch.launch("interpolate", "interpolate_forward", 1, *arguments)


def test_tensors_must_be_on_a_device() -> None:
    arguments = [torch.zeros(1), *[None] * 4, 1, 1]
    with pytest.raises(ValueError, match="on a CUDA device, got cpu"):
        launch.launch("interpolate", "interpolate_forward", 1, *arguments)


def test_files_are_compiled_side_by_side_and_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each waits for another, so one after the other would never end."""
    monkeypatch.setattr(launch, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    together, compiled = Barrier(2, timeout=20), []

    def compile_text(text: str, name: str, *_: object) -> tuple[bytes, str]:
        together.wait()
        compiled.append(name)
        return name.encode(), ""

    monkeypatch.setattr(nvrtc, "compile_text", compile_text)
    launch.prepare("sm_90", ("mips", "normals"))
    assert sorted(compiled) == ["mips.cu", "normals.cu"]
    launch.prepare("sm_90", ("mips", "normals"))  # is known
    launch.prepare.cache_clear()
    launch.prepare("sm_90", ("mips", "normals"))  # from the cache on disc
    assert len(compiled) == 2
    kept = {key[1]: cubin for key, cubin in launch._made.items() if cubin == b"mips.cu"}
    assert kept == {"sm_90": b"mips.cu"}
    launch._made.clear()
    launch.prepare.cache_clear()
