"""The cache directory of this package: one per user, configurable by an environment variable."""

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "INFSH_CACHE_DIR"


def cache_dir() -> Path:
    """`$INFSH_CACHE_DIR`, or `infsh` in the user's cache directory of this platform. It need not exist yet."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    return _platform_cache() / "infsh"


def _platform_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
