"""`StorageDir` and `download`: directories for the files of apps, inside and outside of containers."""

import hashlib
import os
import secrets
import shutil
from enum import StrEnum
from pathlib import Path

from infsh._cache import FileCache, url_name
from infsh._errors import FileUnavailable
from infsh._places import STORAGE_VARIABLE, cache_dir, storage_root


class StorageDir(StrEnum):
    """Directories by purpose. The values are the paths in a container; use `path`."""

    DATA = "/app/data"
    TEMP = "/app/tmp"
    CACHE = "/app/cache"

    @property
    def path(self) -> Path:
        """The directory, created if necessary: in `$INFSH_STORAGE_DIR`, else below `/app` if that is writable, else in
        the user's cache directory."""
        given = os.environ.get(STORAGE_VARIABLE)
        in_container = Path(self.value)
        if given:
            place = storage_root(given) / in_container.name
        elif os.access(in_container if in_container.exists() else in_container.parent, os.W_OK | os.X_OK):
            place = in_container
        else:
            place = cache_dir() / "storage" / in_container.name
        place.mkdir(parents=True, exist_ok=True)
        return place


def download(url: str, directory: str | os.PathLike[str] | StorageDir) -> str:
    """Downloads a URL into a directory and returns the path; an existing file is used without a download.

    In `StorageDir.TEMP` it is always refreshed. Raises FileUnavailable.
    """
    folder = directory.path if isinstance(directory, StorageDir) else Path(directory).absolute()
    target = folder / hashlib.sha256(url.encode()).hexdigest()[:12] / (url_name(url) or "download")
    if target.exists() and directory is not StorageDir.TEMP:
        return str(target)
    source, _ = FileCache().url(url)
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileUnavailable(f"cannot write {target}: {error.strerror}") from error
    return str(target)
