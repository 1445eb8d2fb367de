"""Getting the file that a manifest's source names: one module per kind of source."""

from collections.abc import Callable
from pathlib import Path

from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source
from mien.zoo.sources import file, https, npm, pypi

Fetch = Callable[[Source, Downloads], Path]

KINDS: dict[str, Fetch] = {"pypi": pypi.fetch, "npm": npm.fetch, "https": https.fetch, "file": file.fetch}


def fetch(source: Source, downloads: Downloads) -> Path:
    """The unverified file that `source` names. Raises ModelUnavailable that says what would help."""
    return KINDS[source.kind](source, downloads)
