"""A model file that is already on this machine."""

from contextlib import suppress
from pathlib import Path

from mien.errors import ManifestInvalid, ModelUnavailable
from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source


def fetch(source: Source, downloads: Downloads) -> Path:
    """The file at the source's absolute `path` (`~` is the home folder)."""
    path = Path(source.required("path"))
    with suppress(RuntimeError):  # no home: the path is told as it is
        path = path.expanduser()
    if not path.is_absolute():
        raise ManifestInvalid(f"a source of kind 'file' needs an absolute `path`, not {source.path!r}")
    if not path.is_file():
        raise ModelUnavailable(f"the file {path.name} is not where the manifest's `path` says; put it there")
    return path
