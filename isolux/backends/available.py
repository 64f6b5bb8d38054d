"""Whether this machine can run the operators for CUDA, and what is in the way if not.

Each answer is one line that ends with what to do about it.
"""

import warnings
from importlib import import_module, util
from types import ModuleType

__all__ = ["cuda_problem"]


def cuda_problem() -> str | None:
    """None where torch sees a CUDA device and kernels can be compiled; else why not."""
    import torch  # here: who only asks which settings there are need not wait for it

    if torch.version.cuda is None:
        return (
            f"this torch ({torch.__version__}) is built without CUDA: install a CUDA build as "
            "pytorch.org says, or take backend=cpu"
        )
    if problem := _asked("driver"):
        return problem
    if problem := _device_problem():
        return problem
    problem = _asked("nvrtc")
    if problem and "nvidia-cuda-nvrtc" not in problem:
        problem = f"{problem}; pip install nvidia-cuda-nvrtc"
    return problem


def _asked(part: str) -> str | None:
    """What a part of the CUDA backend says of itself."""
    module = _part(part)
    if module is None:
        return f"this installation lacks isolux.backends.cuda.{part}: install isolux again"
    problem: str | None = module.available()
    return problem


def _part(name: str) -> ModuleType | None:
    full = f"isolux.backends.cuda.{name}"
    if util.find_spec("isolux.backends.cuda") is None or util.find_spec(full) is None:
        return None
    return import_module(full)


def _device_problem() -> str | None:
    """What torch says. It knows of drivers that are too old for its own build."""
    import torch

    with warnings.catch_warnings():  # what it warns of is what is told here
        warnings.simplefilter("ignore")
        if torch.cuda.is_available():
            return None
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError) as error:
            said = (str(error).splitlines() or [""])[0]
        else:
            said = ""
    lower = said.lower()
    if "no nvidia driver" in lower:
        return "no NVIDIA driver was found: install one, or take backend=cpu"
    if "too old" in lower:
        return (
            f"the NVIDIA driver is too old for this torch (built for CUDA "
            f"{torch.version.cuda}): update the driver, or install a torch for an older CUDA "
            f"({said})"
        )
    return (
        f"torch sees no CUDA device ({said or 'and does not say why'}): look at nvidia-smi and "
        "at the variable CUDA_VISIBLE_DEVICES, or take backend=cpu"
    )
