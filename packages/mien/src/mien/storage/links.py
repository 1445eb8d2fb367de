"""References to files: `mien-file://` URIs inside tasks, signed http(s) URLs towards clients.

Signed URLs expire, so a new one is generated each time a task is returned to a client.

Texts of clients and apps that look like a reference are quoted inside tasks, as `mien-file://text/…`: only this server
makes references, and a text never becomes one.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mien.errors import Forbidden
from mien.settings import Listening
from mien.storage.file_records import SCHEME, FileRecord, safe_name
from mien.storage.own_names import OwnNames
from mien.storage.signing import UrlSigner

_URI = re.compile(r"mien-file://([a-z0-9]{26})/([^/?#]+)")
_PATH = re.compile(r"(.*)/files/([a-z0-9]{26})/([^/]+)")
_QUOTED = f"{SCHEME}text/"


def file_uri(record: FileRecord) -> str:
    """The `mien-file://` URI of a stored file."""
    return f"{SCHEME}{record.id}/{quote(record.filename, safe='')}"


def file_id(text: str) -> str | None:
    """The id in `mien-file://ID/NAME`; None for any other text."""
    match = _URI.fullmatch(text)
    return None if match is None else match[1]


class Links:
    """Converts between `mien-file://` URIs and signed URLs."""

    def __init__(self, signer: UrlSigner, seconds: float, listening: Listening) -> None:
        """`seconds`: validity of a signed URL."""
        self.signer = signer
        self._seconds = seconds
        self.public_url = None if listening.public_url is None else listening.public_url.rstrip("/")
        """The base URL for clients; None: taken from each request."""
        self.default_base = self.public_url or listening.own_urls[0]
        """Where there is no request, as for webhooks."""
        known = [*listening.own_urls, *([self.public_url] if self.public_url else [])]
        self._names = OwnNames(listening.host, listening.ports, known)

    def read_url(self, base: str, record: FileRecord) -> str:
        """The URL for downloading the file. That of a public file has no signature."""
        path = f"{base}/files/{record.id}/{quote(record.filename, safe='')}"
        return path if record.public else f"{path}?{self.signer.sign('GET', record.id, self._seconds, record.owner)}"

    def write_url(self, base: str, record: FileRecord) -> str:
        """The URL for uploading the file's content."""
        signature = self.signer.sign("PUT", record.id, self._seconds, record.owner)
        return f"{base}/files/{record.id}/{quote(record.filename, safe='')}?{signature}"

    def externalize(self, value: Any, base: str, owner: str) -> Any:
        """The JSON value with every `mien-file://` URI replaced by a URL that is signed for files of `owner`; quoted
        texts as they were."""

        def external(text: str) -> str:
            match = _URI.fullmatch(text) if text.startswith(SCHEME) else None
            if match is None:
                return _unquoted(text)
            return f"{base}/files/{match[1]}/{match[2]}?{self.signer.sign('GET', match[1], self._seconds, owner)}"

        return _map_strings(value, external)

    def internalize(self, value: Any, base: str) -> Any:
        """The client's JSON value with every URL of one of this server's files replaced by its `mien-file://` URI, and
        texts that look like one quoted.

        `base`: the URL at which the client reaches this server.
        """

        def internal(text: str) -> str:
            return self._internal(text, base) if "/files/" in text else _quoted(text)

        return _map_strings(value, internal)

    def _internal(self, text: str, base: str) -> str:
        try:
            url = urlsplit(text)
        except ValueError:
            return _quoted(text)
        match = _PATH.fullmatch(url.path) if url.scheme in ("http", "https", "") else None
        if match is None:
            return _quoted(text)
        prefix, file = match[1], match[2]
        if not self._names.lead_here(url, prefix, base) and not self._has_signed(file, url.query):
            return _quoted(text)
        return f"{SCHEME}{file}/{quote(safe_name(unquote(match[3])), safe='')}"

    def _has_signed(self, file_id: str, query: str) -> bool:
        """Whether the URL carries a valid signature: then it is ours, whatever its host."""
        try:
            self.signer.check("GET", file_id, dict(parse_qsl(query)))
        except Forbidden:
            return False
        return True


def needs_internalizing(json: str) -> bool:
    """Whether JSON text may contain something that `internalize` changes."""
    return "/files/" in json or SCHEME in json


def has_references(value: Any) -> bool:
    """Whether a string of the JSON value, except keys, is a reference or a quoted text. Copies nothing."""
    if isinstance(value, str):
        return value.startswith(SCHEME)
    if isinstance(value, dict):
        return any(has_references(item) for item in value.values())
    return isinstance(value, list) and any(has_references(item) for item in value)


def quoted_texts(value: Any) -> Any:
    """The JSON value of an app or a model: it contains no references, and texts that look like one are quoted."""
    return _map_strings(value, _quoted)


def unquoted_texts(value: Any) -> Any:
    """The inverse of `quoted_texts`, for an app or a model."""
    return _map_strings(value, _unquoted)


async def replace_file_uris(value: Any, replace: Callable[[str], Awaitable[str]]) -> Any:
    """The JSON value with every `mien-file://` URI replaced by `replace(id)`, which is called once per URI, and quoted
    texts as they were."""
    known: dict[str, str] = {}
    for _, text in _strings(value):
        if text not in known and (found := file_id(text)) is not None:
            known[text] = await replace(found)
    return _map_strings(value, lambda text: known[text] if text in known else _unquoted(text))


def _quoted(text: str) -> str:
    return _QUOTED + text[len(SCHEME) :] if text.startswith(SCHEME) else text


def _unquoted(text: str) -> str:
    return SCHEME + text[len(_QUOTED) :] if text.startswith(_QUOTED) else text


def file_references(value: Any) -> list[tuple[str, str]]:
    """The files that a JSON value refers to, as pairs of JSON path and id: `("images[0].uri", "0123…")`."""
    return [(path, known) for path, text in _strings(value) if (known := file_id(text)) is not None]


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with `change` applied to every string except keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_strings(item, change) for item in value]
    return value


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a JSON value, except keys, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{path}[{number}]")
