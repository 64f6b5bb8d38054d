"""Which backend is taken, which operators come from elsewhere, and what is said if not."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args

import pytest
import torch

from isolux import backends
from isolux.backends import adapters, available
from isolux.backends.adapters import ADAPTERS
from isolux.confs.schema import OperatorsConf, Source

Mistake = Callable[[Sequence[str]], str]
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU"
)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Choices are kept for a process."""
    yield
    backends._combined.cache_clear()
    adapters._tell_licence.cache_clear()


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose `cuda` backend works: the processor's under that name."""
    monkeypatch.setattr(backends, "why_not_cuda", lambda: None)
    monkeypatch.setattr(backends, "cuda", lambda: replace(backends.cpu(), name="cuda"))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a package on the path: its module's text, and the version of its distribution."""

    def put(name: str, text: str, version: str | None = None) -> None:
        parts = ADAPTERS[name].module.split(".")
        for depth in range(1, len(parts) + 1):
            monkeypatch.delitem(sys.modules, ".".join(parts[:depth]), raising=False)
        folder = tmp_path.joinpath(*parts)
        folder.mkdir(parents=True)
        for depth in range(1, len(parts)):
            tmp_path.joinpath(*parts[:depth], "__init__.py").write_text("")
        (folder / "__init__.py").write_text(text)
        if version:
            info = tmp_path / f"{name}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
        monkeypatch.syspath_prepend(tmp_path)

    yield put  # type: ignore[misc]
    for name in ADAPTERS:  # what was imported goes with its folder
        for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
            del sys.modules[loaded]


def refusal(name: str, operators: dict[str, str] | None = None) -> str:
    """The one line that says why."""
    with pytest.raises((ValueError, ImportError)) as caught:
        backends.select(name, operators)
    text = str(caught.value)
    assert "\n" not in text
    return text


# Backends


def test_auto_takes_cuda_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "why_not_cuda", lambda: "no reason")
    assert backends.select().name == "cpu"
    assert backends.select("auto").taken == {}


@pytest.mark.usefixtures("on_a_gpu")
def test_auto_takes_cuda_and_no_package() -> None:
    chosen = backends.select()
    assert (chosen.name, chosen.taken) == ("cuda", {})


def test_an_unknown_backend_is_refused() -> None:
    assert "'auto', 'cpu', 'reference' or 'cuda', got 'gpu'" in refusal("gpu")


def test_backends_stay_functions_when_their_packages_are_imported() -> None:
    code = (
        "import isolux.backends.cpu.raster, isolux.backends.reference.raster\n"
        "import isolux.backends.cuda.driver\n"
        "from isolux import backends as b\n"
        "assert all(type(f).__name__ == '_lru_cache_wrapper'"
        " for f in (b.cpu, b.reference, b.cuda))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_asking_what_there_is_loads_no_torch() -> None:
    code = (
        "import sys; from isolux import backends; from isolux.backends import adapters\n"
        "backends.operator_names(); [adapters.problem(n) for n in adapters.ADAPTERS]\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Machines


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """`cuda_problem` on a machine as described."""

    def describe(
        build: str | None = "13.0",
        device: bool = True,
        torch_says: str = "",
        driver: str | None = None,
        nvrtc: str | None = None,
        absent: str | None = None,
    ) -> str | None:
        said = {"driver": driver, "nvrtc": nvrtc}

        def part(name: str) -> ModuleType | SimpleNamespace | None:
            return None if name == absent else SimpleNamespace(available=lambda: said[name])

        def init() -> None:
            if torch_says:
                raise RuntimeError(f"{torch_says}\nand more lines")

        monkeypatch.setattr(torch.version, "cuda", build)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(available, "_part", part)
        return available.cuda_problem()

    return describe


def test_a_machine_with_everything(machine: Callable[..., str | None]) -> None:
    assert machine() is None


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"build": None}, ["built without CUDA", "pytorch.org"]),
        ({"driver": "no CUDA driver (libcuda.so.1 is not here)"}, ["no CUDA driver"]),
        ({"device": False, "torch_says": NO_DRIVER}, ["no NVIDIA driver", "backend=cpu"]),
        (
            {"device": False, "torch_says": OLD_DRIVER},
            ["too old", "built for CUDA 13.0", "found version 11040", "update"],
        ),
        (
            {"device": False, "torch_says": "No CUDA GPUs are available"},
            ["no CUDA device", "No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES"],
        ),
        ({"device": False}, ["no CUDA device", "nvidia-smi"]),
        ({"nvrtc": "libnvrtc cannot be loaded"}, ["pip install nvidia-cuda-nvrtc"]),
        ({"absent": "nvrtc"}, ["isolux.backends.cuda.nvrtc"]),
    ],
)
def test_what_is_in_the_way_is_one_line(
    machine: Callable[..., str | None], described: dict[str, object], words: list[str]
) -> None:
    text = machine(**described)
    assert text is not None
    assert "\n" not in text
    assert all(word in text for word in words), text
    assert refusal("cuda") == f"backend=cuda: {text}"
    assert backends.select("auto").name == "cpu"


def test_a_backend_that_lacks_operators_says_which(
    machine: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    monkeypatch.setattr(backends, "_is_there", lambda _, module: module != "mlp")
    assert "has no mlp yet" in refusal("cuda")


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA")
def test_cuda_on_a_cpu_build(mistake: Mistake, tmp_path: Path) -> None:
    text = mistake(["train", "--conf", "demo", f"out={tmp_path / 'run'}", "backend=cuda"])
    assert "backend=cuda" in text
    assert "built without CUDA" in text
    assert not (tmp_path / "run").exists()


# Single operators


def test_the_settings_are_the_table() -> None:
    assert tuple(OperatorsConf.model_fields) == backends.operator_names()
    assert set(get_args(Source)) == {"cpu", "reference", "cuda", *ADAPTERS}
    for adapter in ADAPTERS.values():
        assert set(adapter.operators) <= set(backends.operator_names())


def test_one_operator_from_the_reference() -> None:
    mixed = backends.select("cpu", {"rasterize": "reference", "mlp": "cpu"})
    assert mixed.taken == {"rasterize": "reference"}
    assert mixed.rasterize == backends.reference().rasterize
    assert replace(mixed, rasterize=backends.cpu().rasterize, taken={}) == backends.cpu()
    assert backends.select("cpu", {"mlp": "cpu"}) is backends.cpu()


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ({"rasterise": "nvdiffrast"}, ["no such operator", "operators.rasterize"]),
        ({"cubemap": "nvdiffrast"}, ["does not offer it", "rasterize, interpolate, antialias"]),
        ({"hash_grid": "kaolin"}, ["does not offer it", "it offers flexicubes"]),
        ({"mlp": "cuda"}, ["elsewhere", "backend=cpu"]),
        ({"mlp": "numpy"}, ["no such source", "tinycudann"]),
    ],
)
def test_operators_that_cannot_be_had(operators: dict[str, str], words: list[str]) -> None:
    text = refusal("cpu", operators)
    ((name, source),) = operators.items()
    assert text.startswith(f"operators.{name}={source}: ")
    assert all(word in text for word in words), text


def test_adapters_need_a_device(install: Callable[..., None]) -> None:
    install("tinycudann", "raise RuntimeError('imported too early')", "1.7")
    text = refusal("cpu", {"mlp": "tinycudann"})
    assert "runs on a CUDA device, this backend is cpu" in text


# Packages


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.usefixtures("on_a_gpu")
def test_a_package_that_is_not_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.util, "find_spec", lambda _: None)
    adapter = ADAPTERS[name]
    text = refusal("cuda", {adapter.operators[0]: name})
    assert f"{name} is not installed, need {adapter.wanted}: {adapter.how}" in text


@pytest.mark.parametrize("said_by", ["metadata", "module"])
@pytest.mark.usefixtures("on_a_gpu")
def test_a_package_that_is_too_old(install: Callable[..., None], said_by: str) -> None:
    if said_by == "metadata":
        install("nvdiffrast", "raise RuntimeError('not to be imported')", "0.3.3")
    else:
        install("nvdiffrast", "__version__ = '0.3.3'")
    text = refusal("cuda", {"rasterize": "nvdiffrast"})
    assert "nvdiffrast 0.3.3 is too old, need nvdiffrast >= 0.4: pip install" in text


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            "raise ImportError('libcudart.so.12: no such file\\nmore')",
            ["1.7 cannot", "no such"],
        ),
        ("raise EnvironmentError('unknown compute capability')", ["compute capability"]),
        ("import no_such_package_at_all", ["no_such_package_at_all"]),
        ("", ["not the package that is known", "Encoding"]),
    ],
)
@pytest.mark.usefixtures("on_a_gpu")
def test_a_package_that_does_not_load(
    install: Callable[..., None], module: str, words: list[str]
) -> None:
    install("tinycudann", module, "1.7")
    text = refusal("cuda", {"hash_grid": "tinycudann"})
    assert all(word in text for word in [*words, "need tinycudann >= 1.6", "pip install"]), text


@pytest.mark.usefixtures("on_a_gpu")
def test_licences_are_told_once(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The one that forbids commercial use as a warning."""
    install("nvdiffrast", "from stub_nvdiffrast import *", "0.4.0")
    install("kaolin", "from stub_kaolin import *", "0.18.0")
    with caplog.at_level(logging.INFO, "isolux"):
        first = backends.select("cuda", {"rasterize": "nvdiffrast", "flexicubes": "kaolin"})
        backends.select("cuda", {"antialias": "nvdiffrast"})
    told = {record.levelno: record.getMessage() for record in caplog.records}
    assert len(caplog.records) == 2
    assert "nvdiffrast 0.4.0" in told[logging.WARNING]
    assert "no commercial use" in told[logging.WARNING]
    assert "kaolin 0.18.0" in told[logging.INFO]
    assert first.taken == {"rasterize": "nvdiffrast", "flexicubes": "kaolin"}
    assert first.rasterize.forward != backends.cpu().rasterize.forward
    assert first.interpolate == backends.cpu().interpolate


@pytest.mark.usefixtures("on_a_gpu")
def test_a_run_with_every_package(
    install: Callable[..., None],
    isolux_train: Callable[..., int],
    scene_folder: Path,
    tmp_path: Path,
) -> None:
    """The whole path, and the record of it in the run's settings."""
    from isolux.confs.read import read_conf

    install("nvdiffrast", "from stub_nvdiffrast import *", "0.4.0")
    install("tinycudann", "from stub_tinycudann import *", "1.7")
    install("kaolin", "from stub_kaolin import *", "0.18.0")
    named = [
        f"operators.{operator}={name}"
        for name, adapter in ADAPTERS.items()
        for operator in adapter.operators
    ]
    out = tmp_path / "run"
    settings = [
        "optimize.steps=1,1",
        "material.width=32",
        "material.texture_size=16",
        "geometry.extractor=flexicubes",
        "data.test_views=1",
        f"data.path={scene_folder}",
    ]
    assert isolux_train("nerf_synthetic", out, "backend=cuda", *settings, *named) == 0
    kept = read_conf(out / "conf.json").operators
    assert kept.hash_grid == "tinycudann"
    assert (out / "mesh" / "mesh.glb").is_file()


@pytest.mark.usefixtures("with_threads")
def test_a_run_from_another_machine_is_opened(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results do not depend on the backend; training on is another matter."""
    from isolux.confs.read import read_conf
    from isolux.optimize.build import select_backend

    monkeypatch.setattr(backends, "why_not_cuda", lambda: "no device")
    conf = read_conf("demo", ["backend=cuda", "operators.mlp=tinycudann", "threads=1"])
    with pytest.raises(ValueError, match="backend=cuda: no device"):
        select_backend(conf)
    assert select_backend(conf, elsewhere=True) is backends.cpu()
    assert "backend=cuda: no device; going on with backend=cpu" in caplog.text
