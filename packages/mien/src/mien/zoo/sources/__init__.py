"""Getting the file that a manifest's source names: one module per kind of source."""

from importlib import import_module
from pathlib import Path

from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source


def fetch(source: Source, downloads: Downloads) -> Path:
    """The unverified file that `source` names. Raises ModelUnavailable that says what would help."""
    # Imported here: most starts pull nothing, and an HTTP client is slow to import.
    module = import_module(f"{__name__}.{source.kind}")
    fetched: Path = module.fetch(source, downloads)
    return fetched
