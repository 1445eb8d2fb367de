"""Where apps keep their data."""

from infsh import StorageDir

__all__ = ["StorageDir"]
