"""The operators as numba kernels on the processor: the default without a GPU."""
