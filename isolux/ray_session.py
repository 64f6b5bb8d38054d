"""Ray as isolux uses it: it reports nothing to anyone, opens no dashboard, and listens on the
loopback address unless a cluster is named. Ray is an optional extra: the caller imports it.
"""

import os
import socket
from typing import Any

__all__ = ["configure", "connect", "first_words", "start"]

_STORE = 80_000_000  # bytes of the object store, near the least: nothing large goes through it
_PATIENCE = 10.0  # seconds until a head must have answered


def configure(cluster: bool) -> None:
    """Say by the environment what Ray does not do; before it is imported.

    Args:
        cluster: a cluster will be joined, on the network.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would otherwise warn that it hides GPUs from tasks that ask for none. We do.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not cluster:  # the address alone does not keep Ray from listening to the network
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def start(ray: Any, cpus: int, gpus: int) -> None:
    """Start Ray on this machine."""
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        object_store_memory=_STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )


def connect(ray: Any, address: str) -> None:
    """Join a cluster (`auto`, `HOST:6379`, `ray://HOST:10001`).

    Raises:
        ConnectionError: why not, in one line.
    """
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # whatever its transport raises
        reason = (
            (getattr(error, "strerror", None) or str(error)).splitlines()
            or [type(error).__name__]
        )[0][:200]
        raise ConnectionError(
            f"no cluster of Ray answers ({reason}); one that wants its token needs"
            " RAY_AUTH_MODE=token"
        ) from None


def first_words(error: BaseException) -> str:
    """The line of an error that says most: the last of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return (lines[-1] if "Traceback" in str(error) else lines[0])[:300]


def _knock(address: str) -> None:
    """Whether anything listens there: without a head Ray ends the whole process.

    Raises:
        OSError, ValueError: nothing does, or it is no address.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    elif address != "auto":
        raise ValueError("an address is auto, HOST:PORT or ray://HOST:PORT")
