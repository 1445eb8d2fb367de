"""Converted models on disk: `<models_dir>/<name>/<key>/` with the file and its record. An entry is complete or absent.

A new entry is built in a staging folder on the same file system, flushed to disk and renamed, under one lock per
model: of processes that start together one converts, and one that is killed leaves nothing that looks like a model.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mien.atomic import sync
from mien.errors import ModelCorrupt
from mien.locks import locked
from mien.zoo.manifest import Manifest, Source
from mien.zoo.records import Ledger, Record, read_ledger, sha256_of, write_ledger

RECORD = "record.json"
STAGING = "staging-"


class ModelCache:
    """The folder of one model in the cache."""

    def __init__(self, models_dir: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._folder = models_dir / manifest.name
        self._entry = self._folder / entry_key(manifest)

    def record(self) -> Record | None:
        """The cached model's record, None when it is not cached. Raises ModelCorrupt when it cannot be parsed."""
        try:
            return msgspec.json.decode((self._entry / RECORD).read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise self._corrupt("its record cannot be parsed") from error

    def find(self) -> Path | None:
        """The cached file, its hash checked; None when it is not cached. Raises ModelCorrupt."""
        record = self.record()
        if record is None:
            return None
        path = self._entry / record.file
        if not path.is_file():
            raise self._corrupt("its file is missing")
        if path.stat().st_size != record.size or sha256_of(path) != record.sha256:
            raise self._corrupt("its file does not have the recorded hash")
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from pulling this model; removes what a killed one left behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / "lock"):
            for leftover in self._folder.glob(f"{STAGING}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on the cache's own file system to build an entry in. Only under `locked`."""
        folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, record: Record) -> Path:
        """Makes the folder `staged`, which holds the model file, the cache's entry. Only under `locked`."""
        (staged / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        # All of it reaches the disk before the rename does: a rename that survives a power cut while the data does not
        # would leave an entry that looks complete.
        for path in (staged / record.file, staged / RECORD, staged):
            sync(path)
        staged.chmod(0o755)
        if (
            self._entry.exists()
        ):  # a folder can only be renamed onto an empty one; `locked` deletes the old one next time
            self._entry.rename(self._folder / f"{STAGING}old-{self._entry.name}")
        staged.rename(self._entry)
        sync(self._folder)
        return self._entry / record.file

    @property
    def ledger(self) -> Ledger:
        """Consent and pins of this model."""
        return read_ledger(self._folder / "ledger.json")

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        write_ledger(self._folder / "ledger.json", ledger)

    def _corrupt(self, what: str) -> ModelCorrupt:
        name = self._manifest.name
        return ModelCorrupt(f"the cached model {name} is damaged: {what}; run `mien models pull {name} --force`")


def entry_key(manifest: Manifest) -> str:
    """Names what an entry was made from: another source, recipe or revision is another entry."""
    made_from = [source_key(manifest.source), manifest.convert, manifest.convert_revision]
    return hashlib.sha256(msgspec.json.encode(made_from)).hexdigest()[:16]


def source_key(source: Source) -> str:
    """Names one source: where it is and, if pinned, what it holds."""
    return hashlib.sha256(msgspec.json.encode(source, order="deterministic")).hexdigest()[:16]
