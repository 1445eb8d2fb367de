"""Fields that a kind of source cannot do without."""

from mien.errors import ManifestInvalid
from mien.zoo.manifest import Source


def required(source: Source, field: str) -> str:
    """The source's `field`. Raises ManifestInvalid when the manifest leaves it out."""
    value: str | None = getattr(source, field)
    if not value:
        raise ManifestInvalid(f"a source of kind {source.kind!r} needs `{field}`")
    return value
