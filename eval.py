"""`python eval.py ...` is `isolux eval ...`."""

import sys

from isolux.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
