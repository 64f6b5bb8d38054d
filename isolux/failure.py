"""Failures that a line tells: the base of our own errors, cheap to import."""

__all__ = ["Failure"]


class Failure(RuntimeError):
    """Something of this machine does not work, and no setting is at fault: exit code 1."""
