"""`python -m isolux` is `isolux`."""

import sys

from isolux.cli import main

if __name__ == "__main__":
    sys.exit(main())
