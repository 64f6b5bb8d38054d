"""Measure isolux on a CUDA device, beside nvdiffrast and tiny-cuda-nn where they are installed.

    python benchmarks/gpu.py --data DATA --json gpu.json --markdown gpu.md
    python benchmarks/gpu.py --only draw --quick
    python benchmarks/gpu.py --dry-run

DATA is the folder that `scenes.py` takes. Without the checkout it is
`python -m isolux.bench.gpu`. What is measured, and how to build the packages:
`docs/benchmarks.md`, "On a GPU".
"""

import sys

from isolux.bench.gpu.command import main

if __name__ == "__main__":
    sys.exit(main())
