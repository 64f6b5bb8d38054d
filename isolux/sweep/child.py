"""`python -m isolux.sweep.child ...` is `isolux ...`, which ends when its parent has gone.

A worker that is killed cannot stop what it started. The training would go on beside the one
that takes its place; so it looks after its parent by itself, and ends as on Ctrl-C, with a
checkpoint.
"""

import os
import runpy
import signal
import threading
import time

__all__ = ["PARENT", "end_with_parent"]

PARENT = "ISOLUX_SWEEP_PARENT"  # process number of whoever started it
_EVERY = 0.5  # seconds


def end_with_parent() -> None:
    """From now on the end of the parent is a Ctrl-C for this process.

    Ctrl-C is let through as well: schedulers start their workers with it blocked, which
    children inherit.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = int(os.environ.pop(PARENT, os.getppid()))
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("isolux", run_name="__main__", alter_sys=True)
