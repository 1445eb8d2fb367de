"""Files."""

from infsh import File

__all__ = ["File"]
