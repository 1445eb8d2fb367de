"""Quotas of owners: how much of the server one owner may use. Off unless a setting or `mien owners set` turns one on.

Quotas that the database counts (queued tasks, bytes of files) are checked in the transaction that adds to them: see
`mien.tasks.sql.quota` and `mien.storage.file_quota`. Those of requests are counted here.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from mien.atomic import replace_file
from mien.errors import InternalError, QuotaExceeded
from mien.keys import checked_owner
from mien.locks import locked
from mien.private import private_folder
from mien.settings import Quotas as Defaults

WINDOW = 1.0
FIRST_GUESS = 1.0
"""Seconds that images are inside, until one has left."""
_SMOOTHING = 0.1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The quotas of one owner; None: no limit."""

    queued: int | None = None
    """Tasks that wait for a worker; as many again may wait for their `run_at`."""
    running: int | None = None
    """Tasks that run. Further ones wait."""
    file_bytes: int | None = None
    images: int | None = None
    """Images, and other payloads of `/v1/infer` and gRPC, that are inside."""
    requests: int | None = None
    """Requests per second."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The quotas of one owner that differ from the server's; None: no limit."""

    queued: int | UnsetType | None = UNSET
    running: int | UnsetType | None = UNSET
    file_bytes: int | UnsetType | None = UNSET
    images: int | UnsetType | None = UNSET
    requests: int | UnsetType | None = UNSET


NAMES = Limits.__struct_fields__


class OwnerStore(Protocol):
    """What is set for single owners. Changes apply without a restart."""

    def all(self) -> Mapping[str, Overrides]:
        """By owner. Raises InternalError if it cannot be read."""

    def set(self, owner: str, changes: Mapping[str, int | None]) -> Overrides:
        """Change quotas by their names; None: no limit. Raises RequestError for what cannot be an owner."""

    def reset(self, owner: str) -> None:
        """Give the owner the server's quotas again."""


class FileOwnerStore:
    """An `OwnerStore` in one JSON file."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "owners.json"
        self._seen: tuple[int, int, int] | None = None
        self._owners: Mapping[str, Overrides] = {}

    def all(self) -> Mapping[str, Overrides]:
        try:
            # By the file's identity, which every change gives anew: this is asked several times per request.
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._owners = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Overrides])
                self._seen = seen
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, OSError) as error:
            raise InternalError("the quotas of owners cannot be read; see owners.json in MIEN_DATA_DIR") from error
        return self._owners

    def set(self, owner: str, changes: Mapping[str, int | None]) -> Overrides:
        with self._locked():
            owners = dict(self.all())
            known = owners.get(checked_owner(owner), Overrides())
            owners[owner] = msgspec.structs.replace(known, **changes)
            self._write(owners)
        return owners[owner]

    def reset(self, owner: str) -> None:
        with self._locked():
            self._write({name: known for name, known in self.all().items() if name != owner})

    def _locked(self) -> AbstractContextManager[None]:
        private_folder(self._path.parent)
        return locked(self._path.with_suffix(".lock"))

    def _write(self, owners: Mapping[str, Overrides]) -> None:
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(owners)))


class Quotas:
    """What each owner may use, and what is in use by requests. Used from the event loop only."""

    def __init__(self, defaults: Defaults, owners: OwnerStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._defaults = limits_of(defaults)
        self._owners = owners
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}
        self._images = Counter[str]()
        self._seconds = FIRST_GUESS

    def of(self, owner: str) -> Limits:
        """The owner's quotas. Raises InternalError if they cannot be read: they never stop to count."""
        own = self._owners.all().get(owner)
        return self._defaults if own is None else combined(self._defaults, own)

    def count_request(self, owner: str) -> None:
        """Count a request. Raises QuotaExceeded, with the time after which one will be let in."""
        limit = self.of(owner).requests
        if limit is None:
            self._sent.pop(owner, None)
            return
        now, sent = self._clock(), self._sent.setdefault(owner, deque())
        while sent and sent[0] <= now - WINDOW:
            sent.popleft()
        if len(sent) >= limit:
            until = sent[len(sent) - limit] + WINDOW - now
            raise exceeded("requests per second", owner, limit, len(sent), retry_after=until)
        sent.append(now)

    @contextmanager
    def images(self, owner: str, count: int) -> Iterator[None]:
        """Count images as inside while the block runs. Raises QuotaExceeded."""
        limit = self.of(owner).images
        inside = self._images[owner]
        if limit is not None and inside + count > limit:
            known = self._seconds if count <= limit else None
            raise exceeded("images inside", owner, limit, inside, more=count, retry_after=known)
        began = self._clock()
        self._images[owner] += count
        try:
            yield
        finally:
            self._images[owner] -= count
            if not self._images[owner]:
                del self._images[owner]
            self._seconds += _SMOOTHING * (self._clock() - began - self._seconds)


def limits_of(defaults: Defaults) -> Limits:
    """The quotas that the settings give to every owner."""
    return Limits(**{name: getattr(defaults, f"owner_{name}") for name in NAMES})


def combined(defaults: Limits, own: Overrides) -> Limits:
    """The quotas of an owner with some of its own."""
    given = {name: value for name in NAMES if (value := getattr(own, name)) is not UNSET}
    return msgspec.structs.replace(defaults, **given)


def exceeded(
    quota: str, owner: str, limit: int, used: int, *, more: int | None = None, retry_after: float | None = None
) -> QuotaExceeded:
    """The error: which quota, its limit, and how much of it is used. `more`: what this request needs, if not one."""
    asks = "" if more is None else f"; this request needs {more} more"
    return QuotaExceeded(
        f"quota of {quota}: the owner {owner!r} may have {limit} and has {used}{asks}", retry_after=retry_after
    )
