"""What the cache writes down about a model: the record beside its file, and the ledger that outlives it."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mien.atomic import replace_file


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file at `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Describes one cached model file. Written once, when the model enters the cache."""

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


class Consent(msgspec.Struct, frozen=True):
    """Somebody accepted this licence at this time."""

    licence: str
    at: datetime


class Ledger(msgspec.Struct, frozen=True):
    """What was settled once for a model and outlives its files: consent to its licence, hashes first seen."""

    consent: Consent | None = None
    pins: dict[str, str] = {}
    """SHA-256 of each source's file by the source's key, as first seen."""

    def consented_to(self, licence: str) -> bool:
        """Whether this very licence text was accepted."""
        return self.consent is not None and self.consent.licence == licence

    def with_consent(self, licence: str) -> "Ledger":
        """The ledger after `licence` was accepted now."""
        return Ledger(Consent(licence, datetime.now(UTC)), self.pins)

    def with_pin(self, source_key: str, sha256: str) -> "Ledger":
        """The ledger that holds a source to `sha256` from now on."""
        return Ledger(self.consent, {**self.pins, source_key: sha256})


def read_ledger(path: Path) -> Ledger:
    """The ledger at `path`; an empty one where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except FileNotFoundError:
        return Ledger()


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Replaces the ledger at `path` as a whole."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(ledger)))
