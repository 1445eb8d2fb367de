"""Signed URLs: each grants one method on one file until it expires."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from mien.atomic import create_file
from mien.errors import Forbidden, InternalError
from mien.keys import DEFAULT_OWNER
from mien.private import private_folder

Method = Literal["GET", "PUT"]
_KEY_BYTES = 32


class UrlSigner:
    """Signs and verifies file URLs with the server's secret key.

    A URL is valid for files of one owner only. Ids of files get into outputs of tasks, which apps write: signing such
    an id must not give a task's owner the file of another one.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def sign(self, method: Method, file_id: str, seconds: float, owner: str = DEFAULT_OWNER) -> str:
        """A query string that authorises `method` for `seconds` on the file, if it is one of `owner`'s."""
        expires, tag = str(int(self._clock() + seconds)), self._tag(owner)
        signed = {"expires": expires, "signature": self._signature(method, file_id, expires, tag)}
        return urlencode(signed | ({"owner": tag} if tag else {}))

    def is_for(self, query: Mapping[str, str], owner: str) -> bool:
        """Whether the query, which `check` has accepted, was signed for files of that owner."""
        return query.get("owner", "") == self._tag(owner)

    def check(self, method: str, file_id: str, query: Mapping[str, str]) -> None:
        """Raise Forbidden unless the query was signed for this method and file and has not expired. HEAD counts as
        GET."""
        expires = query.get("expires", "")
        wanted = self._signature("GET" if method == "HEAD" else method, file_id, expires, query.get("owner", ""))
        if not hmac.compare_digest(wanted.encode(), query.get("signature", "").encode("utf-8", "replace")):
            raise Forbidden("the URL's signature is not valid for this file and method")
        if not expires.isdecimal() or int(expires) <= self._clock():
            raise Forbidden("the URL has expired; request the file's record to get a new one")

    def _tag(self, owner: str) -> str:
        """Stands for the owner in a URL, whose reader need not learn the name. Empty for the default owner, so that
        URLs which were signed before there were owners stay valid."""
        return "" if owner == DEFAULT_OWNER else self._hmac(f"owner\n{owner}")[:16]

    def _signature(self, method: str, file_id: str, expires: str, tag: str) -> str:
        return self._hmac("\n".join((method, file_id, expires, *([tag] if tag else []))))

    def _hmac(self, message: str) -> str:
        return hmac.new(self._key, message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def load_key(path: Path) -> bytes:
    """The secret key in that file, generated on first use and readable by its owner only.

    Raises InternalError if the file cannot be read or is damaged.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return _generate_key(path)
    except OSError as error:
        raise InternalError(f"the key file {path.name} in MIEN_DATA_DIR cannot be read: {error.strerror}") from error
    if len(key) != _KEY_BYTES:
        raise InternalError(
            f"the key file {path.name} in MIEN_DATA_DIR is damaged; remove it to have a new one generated"
        )
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return key


def _generate_key(path: Path) -> bytes:
    # Created atomically, so that two processes that start concurrently agree on one key.
    private_folder(path.parent)
    create_file(path, secrets.token_bytes(_KEY_BYTES))
    return path.read_bytes()  # another process may have been first
