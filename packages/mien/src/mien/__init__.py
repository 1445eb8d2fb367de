"""Mien: a self-hosted inference server for faces, images and your own Python models.

In a program, without a server: `from mien import Faces`.
"""

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.errors import MienError
    from mien.faces.pipeline import Face
    from mien.library.faces import Comparison, Faces
    from mien.library.search import FolderImage, Progress

try:
    __version__ = version("mien")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

__all__ = ["Comparison", "Face", "Faces", "FolderImage", "MienError", "Progress", "__version__"]

# ONNX Runtime sends telemetry with an id of this machine, unless that is disabled before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MODULES = {
    "Comparison": "mien.library.faces",
    "Face": "mien.faces.pipeline",
    "Faces": "mien.library.faces",
    "FolderImage": "mien.library.search",
    "MienError": "mien.errors",
    "Progress": "mien.library.search",
}


def __getattr__(name: str) -> Any:
    """The library's classes, imported when they are first used: commands and workers import this package, too."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
