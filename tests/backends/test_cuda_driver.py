"""The path from a launch to the CUDA driver, with a library that stands for the driver's."""

import ctypes
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from isolux.backends.cuda import driver, launch, nvrtc

TEXT = """
KERNEL every_type(const int* i, long long* l, const word* w, const float* f, double* d,
                  bool* b, real* r, int n, long long m, float x, double y, bool yes, real z) {}
KERNEL every_other(real* out, int count) {}
"""
IMAGE = b"STUB;every_type:8:8:8:8:8:8:8:4:8:4:8:1:4;every_other:8:4"
IN_DOUBLE = b"STUB;every_type:8:8:8:8:8:8:8:4:8:4:8:1:8;every_other:8:4"
STREAM = 0x7000_0000_1230


class OnDevice(Tensor):
    """Says that it is on a CUDA device; its address is one of the processor's."""

    number = 0

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.number)


class OnSecond(OnDevice):
    number = 1


def on_device(tensor: Tensor, number: int = 0) -> Tensor:
    return tensor.as_subclass(OnSecond if number else OnDevice)


class Stub:
    """The library, and how it is asked to behave."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.stub_calls.restype = ctypes.c_char_p
        self._library.stub_reset()

    def fail(self, function: str, status: int) -> None:
        self._library.stub_fail(function.encode(), status)

    def version(self, number: int) -> None:
        self._library.stub_version(number)

    def calls(self, kind: str = "") -> list[list[str]]:
        """The words of each call of a kind so far."""
        text: bytes = self._library.stub_calls()
        lines = [line.split() for line in text.decode().splitlines()]
        return [line for line in lines if not kind or line[0] == kind]


def forget() -> None:
    for function in (
        *(driver._library, driver._context),
        *(launch._function, launch._module, launch._signatures),
    ):
        function.cache_clear()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to compile what stands for the driver")
    path = tmp_path_factory.mktemp("driver") / "libstub.so"
    text = Path(__file__).parents[1] / "support" / "stub_driver.cpp"
    flags = ("-std=c++17", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run(["g++", *flags, str(text), "-o", str(path)], check=True)
    return path


@pytest.fixture
def stub(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A driver with two devices, of architectures 9.0 and 8.6; torch says what it would."""
    forget()
    monkeypatch.setattr(driver, "_name", lambda: str(compiled))
    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    capabilities = {0: (9, 0), 1: (8, 6)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    yield Stub(compiled)
    forget()


@pytest.fixture
def compilations(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Kernels of every type of argument; no compiler. What was asked of it is written down."""
    asked: list[tuple[str, ...]] = []

    def compile_text(
        text: str, name: str, architecture: str, options: tuple[str, ...] = ()
    ) -> tuple[bytes, str]:
        asked.append((name, architecture, *options))
        return IN_DOUBLE if "typedef double" in text else IMAGE, ""

    monkeypatch.setattr(nvrtc, "compile_text", compile_text)
    monkeypatch.setattr(nvrtc, "version", lambda: (12, 8))
    monkeypatch.setattr(launch, "source", lambda _, real: f"typedef {real} real;\n{TEXT}")
    monkeypatch.setattr(launch, "cache_directory", lambda: None)
    return asked


def start(count: int = 1, number: int = 0, dtype: torch.dtype = torch.float32) -> None:
    out = on_device(torch.zeros(2, dtype=dtype), number)
    launch.launch("every", "every_other", count, out, count % 100)


Compilations = list[tuple[str, ...]]


@pytest.mark.parametrize("real", [torch.float32, torch.float64])
def test_arguments_arrive(stub: Stub, compilations: Compilations, real: torch.dtype) -> None:
    """Each as C passes it: addresses, numbers of each width, the tensors' own precision."""
    tensors = [
        on_device(torch.zeros(3, dtype=dtype))
        for dtype in (torch.int32, torch.int64, torch.int64)
    ]
    tensors += [on_device(torch.zeros(3, dtype=real)) for _ in range(4)]
    f, d = (
        on_device(torch.zeros(3, dtype=dtype)) if dtype == real else None
        for dtype in (torch.float32, torch.float64)
    )
    flags = on_device(torch.zeros(3, dtype=torch.bool))
    i, l_, w, r, *_ = tensors
    numbers = (-7, 1 << 40, 0.1, 0.1, True, 2.5)
    launch.launch("every", "every_type", 9, i, l_, w, f, d, flags, r, *numbers)
    (call,) = stub.calls("start")
    addresses = [0 if t is None else t.data_ptr() for t in (i, l_, w, f, d, flags, r)]
    last = "f" if real == torch.float32 else "d"
    assert call[1:3] == ["every_type", "0"]
    assert call[3:] == [
        *("1", "1", "1", "256", "1", "1", "0", str(STREAM), "0"),
        *(struct.pack("=Q", address).hex() for address in addresses),
        *(
            struct.pack(f"={kind}", value).hex()
            for kind, value in zip(f"iqfd?{last}", numbers, strict=True)
        ),
    ]
    assert stub.calls("load")[0][1:] == [
        "0",
        (IMAGE if real == torch.float32 else IN_DOUBLE).decode(),
    ]


@pytest.mark.parametrize(
    ("count", "blocks"),
    [
        (1, 1),
        (256, 1),
        (257, 2),
        (1 << 28, 1 << 20),
        ((1 << 28) + 1, 1 << 20),
        (1 << 35, 1 << 20),
    ],
)
@pytest.mark.usefixtures("compilations")
def test_grids(stub: Stub, count: int, blocks: int) -> None:
    start(count)
    assert stub.calls("start")[0][3:10] == [str(blocks), *("1", "1", "256", "1", "1", "0")]


@pytest.mark.parametrize("count", [0, -1])
@pytest.mark.usefixtures("compilations")
def test_no_index_starts_nothing(stub: Stub, count: int) -> None:
    start(count)
    assert not stub.calls()


def test_a_module_is_loaded_once_a_device_and_precision(
    stub: Stub, compilations: Compilations
) -> None:
    for _ in range(3):
        start(number=0)
        start(number=1)
        start(number=0, dtype=torch.float64)
    assert compilations == [("every.cu", "sm_90"), ("every.cu", "sm_86"), ("every.cu", "sm_90")]
    assert [call[1] for call in stub.calls("load")] == ["0", "1", "0"]
    assert len(stub.calls("find")) == 3
    assert [call[2] for call in stub.calls("start")] == ["0", "1", "0"] * 3


@pytest.mark.usefixtures("compilations")
def test_each_thread_gets_the_context(stub: Stub) -> None:
    """Autograd's threads begin without one, and what is loaded already is started there too."""
    start()
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    start()
    assert [call[0] for call in stub.calls()] == [
        *("retain", "context", "load", "find", "start"),
        *("context", "start", "start"),
    ]


@pytest.mark.usefixtures("compilations")
def test_the_context_follows_the_device(stub: Stub) -> None:
    for number in (0, 0, 1, 0):
        start(number=number)
    assert [call[1] for call in stub.calls("context")] == ["0", "1", "0"]
    assert [call[1] for call in stub.calls("retain")] == ["0", "1"]


def test_exact_files_are_compiled_without_contraction(
    stub: Stub, compilations: Compilations
) -> None:
    launch.launch("raster", "every_other", 1, on_device(torch.zeros(1)), 1)
    assert compilations == [("raster.cu", "sm_90", "--fmad=false")]


def test_no_driver(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver, "_name", lambda: str(tmp_path / "libcuda.so.1"))
    said = driver.available()
    assert said is not None
    assert "no CUDA driver" in said
    assert "libcuda.so.1 is not here" in said
    assert "backend=cpu" in said


def test_a_file_that_is_no_driver(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    monkeypatch.setattr(driver, "_name", lambda: str(tmp_path / "libcuda.so.1"))
    assert "no CUDA driver" in (driver.available() or "")


@pytest.mark.parametrize(
    ("status", "reason"), [(100, "no CUDA-capable device is detected"), (803, "error 803")]
)
def test_no_device(stub: Stub, status: int, reason: str) -> None:
    stub.fail("cuInit", status)
    said = driver.available() or ""
    assert f"sees no usable device ({reason})" in said
    assert "backend=cpu" in said
    stub.fail("cuInit", 0)
    assert driver.available() is None  # nothing is remembered of a failure


def test_an_old_driver(stub: Stub) -> None:
    stub.version(11080)
    assert "for CUDA 11.8, at least 12.0" in (driver.available() or "")


@pytest.mark.parametrize(
    ("function", "doing"),
    [
        ("cuModuleLoadData", r"loading every\.cu \(sm_90, NVRTC 12\.8\)"),
        ("cuLaunchKernel", r"starting every_other of every\.cu"),
        ("cuDevicePrimaryCtxRetain", "taking device 0"),
    ],
)
@pytest.mark.usefixtures("compilations")
def test_a_full_device(stub: Stub, function: str, doing: str) -> None:
    stub.fail(function, 2)
    with pytest.raises(
        MemoryError, match=rf"CUDA, {doing}: out of memory; use smaller batches"
    ):
        start()
    stub.fail(function, 0)
    start()  # room again: nothing is remembered


@pytest.mark.usefixtures("compilations")
def test_code_for_another_architecture(stub: Stub) -> None:
    stub.fail("cuModuleLoadData", 209)
    with pytest.raises(
        driver.ImageError,
        match=r"every\.cu \(sm_90, NVRTC 12\.8\): no kernel image .*driver is for CUDA 12\.4",
    ):
        start()


@pytest.mark.parametrize("function", ["cuDeviceGet", "cuCtxSetCurrent"])
@pytest.mark.usefixtures("compilations")
def test_a_device_that_cannot_be_taken(stub: Stub, function: str) -> None:
    stub.fail(function, 101)
    with pytest.raises(driver.DriverError, match="taking device 0: error 101"):
        start()


@pytest.mark.usefixtures("compilations")
def test_an_earlier_kernel_failed(stub: Stub) -> None:
    stub.fail("cuLaunchKernel", 700)
    with pytest.raises(driver.DriverError, match=r"starting every_other .*illegal memory"):
        start()


def test_a_name_that_the_code_lacks(stub: Stub) -> None:
    driver.use(0)
    module = driver.load(IMAGE, "every.cu")
    assert driver.function_of(module, "every_other")
    with pytest.raises(driver.DriverError, match="every_one: named symbol not found"):
        driver.function_of(module, "every_one")


def test_a_damaged_file_of_the_cache(
    stub: Stub,
    compilations: Compilations,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(launch, "cache_directory", lambda: tmp_path)
    start()
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == IMAGE
    path.write_bytes(b"")
    forget()
    start()
    assert len(compilations) == 2
    assert path.read_bytes() == IMAGE
    forget()
    start()
    assert len(compilations) == 2
    assert len(stub.calls("start")) == 3


@pytest.mark.usefixtures("stub")
def test_tensors_on_two_devices_are_refused() -> None:
    one, other = on_device(torch.zeros(3)), on_device(torch.zeros(3), 1)
    with pytest.raises(ValueError, match="on cuda:0"):
        launch.launch("interpolate", "interpolate_to_uv", 1, one, None, None, other, None, 1, 1)


def test_what_the_compiler_makes_is_started(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := nvrtc.available():
        pytest.skip(reason)
    monkeypatch.setattr(launch, "cache_directory", lambda: None)
    index = on_device(torch.zeros(3, dtype=torch.int32))
    number = on_device(torch.zeros(3, dtype=torch.int32))
    launch.launch("tetrahedra", "tetrahedra_number", 3, index, number, 3)
    assert stub.calls("load") == [["load", "0", "ELF"]]
    assert [call[1] for call in stub.calls("start")] == ["tetrahedra_number"]


@pytest.mark.skipif(os.name == "nt", reason="other names")
@pytest.mark.parametrize(
    ("cuda", "first"), [("12.8", "libnvrtc.so.12"), ("13.0", "libnvrtc.so.13"), (None, "13")]
)
def test_the_compiler_that_suits_torch_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str | None, first: str
) -> None:
    """One of a later major version makes code that the driver may not run."""
    for folder, name in (("cuda_nvrtc", "libnvrtc.so.12"), ("cu13", "libnvrtc.so.13")):
        (tmp_path / folder / "lib").mkdir(parents=True)
        (tmp_path / folder / "lib" / name).touch()
    specs: dict[str, Callable[[], SimpleNamespace]] = {
        "nvidia": lambda: SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    }
    monkeypatch.setattr(nvrtc.util, "find_spec", lambda name: specs.get(name, lambda: None)())
    monkeypatch.setattr(torch.version, "cuda", cuda)
    names = [Path(path).name for path in nvrtc._candidates()]
    assert names[0].endswith(first)
    assert names[2].endswith(first)
    assert len(names) == 5
