"""Downloads."""

from infsh import download

__all__ = ["download"]
