"""`python -m isolux.bench.gpu`."""

import sys

from isolux.bench.gpu.command import main

if __name__ == "__main__":
    sys.exit(main())
