"""What was settled once for a model and outlives its files: consent to its licence, hashes first seen."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mien.atomic import replace_file


class Consent(msgspec.Struct, frozen=True):
    """Somebody accepted this licence at this time."""

    licence: str
    at: datetime


class Ledger(msgspec.Struct, frozen=True):
    """One model's ledger; changes make a new one."""

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
