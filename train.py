"""`python train.py ...` is `isolux train ...`, also for the processes that torchrun starts."""

import os
import sys

from isolux.cli import main

if __name__ == "__main__":
    if os.environ.get("RANK", "0") != "0":  # of several processes one says where the run lies
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.exit(main(["train", *sys.argv[1:]]))
