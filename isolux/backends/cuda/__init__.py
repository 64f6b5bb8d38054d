"""The operators as CUDA C++ text, compiled at first use by NVRTC: no compiler is installed.

`text/` holds the kernels, `nvrtc.py` compiles them, `driver.py` loads and starts them, and
`launch.py` is what the operators' modules call. These have the names of the processor's
(`isolux.backends.cpu`). A kernel is written for one index range, without shared memory, so the
same text compiled for the processor gives the same numbers; the tests do that. `half_mlp.py` is
a second `mlp`, whose kernels work in warps and phases (`text/warp.cuh`), which become loops.
"""
