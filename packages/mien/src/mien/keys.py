"""API keys: created once, shown once, stored only as hashes, compared in constant time."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, get_args

import msgspec

from mien.atomic import replace_file
from mien.errors import Forbidden, InternalError, NotFound, RequestError, Unauthorized
from mien.locks import locked
from mien.private import private_folder

Scope = Literal["infer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "mien_"
DEFAULT_OWNER = "default"
"""The owner of keys that name none, and of everything that is made while there are no keys."""
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """One API key as stored. The secret has 256 random bits, so a plain hash is safe at rest."""

    id: str
    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: str
    owner: str = DEFAULT_OWNER
    """Whose tasks, files and sessions the key makes and sees. Keys share an owner, which survives their rotation."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    key: Key | None
    """None: there are no keys, and anyone may call."""

    @property
    def owner(self) -> str:
        """The owner of what the caller makes."""
        return DEFAULT_OWNER if self.key is None else self.key.owner

    @property
    def reach(self) -> str | None:
        """The owner whose tasks, files and sessions the caller can name; None: everyone's."""
        return None if self.key is None or "admin" in self.key.scopes else self.key.owner


def checked_owner(owner: str) -> str:
    """The owner's name. Raises RequestError if it cannot be one."""
    if not _OWNER.fullmatch(owner):
        raise RequestError(f"an owner is 1 to 64 letters, digits, dots, hyphens and underscores; got {owner[:80]!r}")
    return owner


class KeyStore(Protocol):
    """The API keys of a server. Changes apply without a restart, and an unreadable store never grants access."""

    def all(self) -> tuple[Key, ...]:
        """Every key, oldest first. Raises InternalError if the keys cannot be read: it never fails open."""

    def create(self, name: str, scopes: Iterable[Scope], owner: str = DEFAULT_OWNER) -> tuple[Key, str]:
        """A new key and its secret, which is not stored and cannot be shown again. Raises RequestError."""

    def revoke(self, key_id: str) -> Key:
        """Remove the key with that id. Raises NotFound."""

    def authenticate(self, secret: str) -> Key | None:
        """The key with that secret, or None. Compares with every key, so that timing reveals nothing."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Which callers have access: one rule for HTTP and gRPC, however a key is presented."""

    keys: KeyStore
    open_without_keys: bool
    """Whether anyone may call while no key exists: the server listens on loopback only, or runs with `--no-auth`."""
    subject: str
    """What requires the key; starts the error messages: `this server`."""
    how: str
    """How to send it; ends an error message: `send it as …`."""

    def require(self, secret: str, scope: Scope) -> Caller:
        """Who calls: the holder of the key with that secret, or anyone while no key exists.

        `secret`: as sent, empty if none was. Raises Unauthorized for a missing or unknown key, Forbidden if the key
        lacks `scope`, InternalError if the keys cannot be read.
        """
        if not self.keys.all():
            if self.open_without_keys:
                return Caller(None)
            # The server refuses to start in this state, so the last key was revoked while it ran.
            raise Unauthorized(f"{self.subject} requires an API key, but none exists any more; see `mien keys create`")
        if not secret:
            raise Unauthorized(f"{self.subject} requires an API key: {self.how}")
        key = self.keys.authenticate(secret)
        if key is None:
            raise Unauthorized("this API key is unknown")
        if scope not in key.scopes:
            raise Forbidden(f"this API key lacks the scope {scope!r}; it has: {', '.join(key.scopes)}")
        return Caller(key)


class FileKeyStore:
    """A `KeyStore` in one JSON file that only its owner can read."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "keys.json"
        self._content: bytes | None = None
        self._keys: tuple[Key, ...] = ()

    def all(self) -> tuple[Key, ...]:
        try:
            content = self._path.read_bytes()
            # Compared by content: mtimes are too coarse to notice a key that was revoked just after the last read.
            if content != self._content:
                self._keys = msgspec.json.decode(content, type=tuple[Key, ...])
                self._content = content
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, OSError) as error:
            raise InternalError("the API key file cannot be parsed; see keys.json in MIEN_DATA_DIR") from error
        return self._keys

    def create(self, name: str, scopes: Iterable[Scope], owner: str = DEFAULT_OWNER) -> tuple[Key, str]:
        wanted = tuple(dict.fromkeys(scopes))
        if not wanted or any(scope not in SCOPES for scope in wanted):
            raise RequestError(f"a key needs scopes among {', '.join(SCOPES)}; got {', '.join(wanted) or 'none'}")
        secret = PREFIX + secrets.token_urlsafe(32)
        key = Key(
            id=secrets.token_hex(4),
            name=name,
            sha256=_digest(secret),
            scopes=wanted,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            owner=checked_owner(owner),
        )
        with self._locked():
            self._write((*self.all(), key))
        return key, secret

    def revoke(self, key_id: str) -> Key:
        with self._locked():
            keys = self.all()
            found = [key for key in keys if key.id == key_id]
            if not found:
                raise NotFound(f"no API key has the id {key_id!r}")
            self._write(tuple(key for key in keys if key.id != key_id))
        return found[0]

    def authenticate(self, secret: str) -> Key | None:
        digest = _digest(secret)
        matches = [key for key in self.all() if hmac.compare_digest(key.sha256, digest)]
        return matches[0] if matches else None

    def _locked(self) -> AbstractContextManager[None]:
        private_folder(self._path.parent)
        return locked(self._path.with_suffix(".lock"))

    def _write(self, keys: tuple[Key, ...]) -> None:
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(keys)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
