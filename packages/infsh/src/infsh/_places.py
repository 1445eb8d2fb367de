"""The cache directory of this package: one per user, configurable by an environment variable."""

import os
import sys
from pathlib import Path

from infsh._errors import FileUnavailable

CACHE_VARIABLE = "INFSH_CACHE_DIR"
STORAGE_VARIABLE = "INFSH_STORAGE_DIR"
_HOMELESS = "this user has no home directory: set {variable} to an absolute path, or set HOME"


def cache_dir() -> Path:
    """`$INFSH_CACHE_DIR`, or `infsh` in the user's cache directory of this platform. It need not exist yet.
    Raises FileUnavailable if the user has no home."""
    given = os.environ.get(CACHE_VARIABLE)
    try:
        return Path(given).expanduser().absolute() if given else _platform_cache() / "infsh"
    except RuntimeError:
        raise FileUnavailable(_HOMELESS.format(variable=CACHE_VARIABLE)) from None


def storage_root(given: str) -> Path:
    """The directory that the variable for storage names. Raises FileUnavailable."""
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise FileUnavailable(_HOMELESS.format(variable=STORAGE_VARIABLE)) from None


def _platform_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
