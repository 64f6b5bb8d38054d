"""The error of settings that cannot be used."""

__all__ = ["ConfError"]


class ConfError(ValueError):
    """What is wrong with the settings, a line each; for the person who wrote them."""
