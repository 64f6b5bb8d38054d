"""Measurements on a CUDA device, beside the packages that do the same.

`python -m isolux.bench.gpu`, or `python benchmarks/gpu.py` in a checkout, runs them.
A job is one case with everybody who can do it. It is given its inputs once, and gives cells of
a table. Packages that are not here are left blank, with the reason.
"""
