"""`python train.py ...` is `isolux train ...`."""

import sys

from isolux.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
