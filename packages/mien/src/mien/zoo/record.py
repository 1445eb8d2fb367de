"""What the cache knows about a converted model: the note beside its file."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mien.zoo.hashing import sha256_of


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Written once, when the model enters the cache."""

    file: str
    """Name of the model's file, beside the record."""
    size: int
    """Bytes of that file."""
    sha256: str
    """Of that file."""
    source_sha256: str
    """Of the unconverted file."""
    convert: str | None
    convert_revision: int
    pulled_at: datetime


def record_of(path: Path, *, source_sha256: str, convert: str | None, convert_revision: int) -> Record:
    """The record of the new model file at `path`."""
    return Record(
        file=path.name,
        size=path.stat().st_size,
        sha256=sha256_of(path),
        source_sha256=source_sha256,
        convert=convert,
        convert_revision=convert_revision,
        pulled_at=datetime.now(UTC),
    )
