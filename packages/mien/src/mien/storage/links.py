"""References to files: `mien-file://` URIs inside tasks, signed http(s) URLs towards clients.

Signed URLs expire, so a new one is generated each time a task is returned to a client.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mien.errors import Forbidden
from mien.storage.file_records import SCHEME, FileRecord, safe_name
from mien.storage.signing import UrlSigner

_URI = re.compile(r"mien-file://([a-z0-9]{26})/([^/?#]+)")
_PATH = re.compile(r"(.*)/files/([a-z0-9]{26})/([^/]+)")
_LOOPBACK = re.compile(r"^(https?://)(?:localhost|\[::1\])(?=[:/]|$)")


def file_uri(record: FileRecord) -> str:
    """The `mien-file://` URI of a stored file."""
    return f"{SCHEME}{record.id}/{quote(record.filename, safe='')}"


def file_id(text: str) -> str | None:
    """The id in `mien-file://ID/NAME`; None for any other text."""
    match = _URI.fullmatch(text)
    return None if match is None else match[1]


class Links:
    """Converts between `mien-file://` URIs and signed URLs."""

    def __init__(self, signer: UrlSigner, seconds: float, public_url: str | None, own_urls: Sequence[str]) -> None:
        """`seconds`: validity of a signed URL. `public_url`: base URL for clients; None: taken from each request.
        `own_urls`: base URLs on this machine; the first is used where there is no request, as for webhooks."""
        self.signer = signer
        self._seconds = seconds
        self.public_url = None if public_url is None else public_url.rstrip("/")
        self._own = tuple(own_urls)
        self.default_base = self.public_url or self._own[0]

    def read_url(self, base: str, record: FileRecord) -> str:
        """The URL for downloading the file. That of a public file has no signature."""
        path = f"{base}/files/{record.id}/{quote(record.filename, safe='')}"
        return path if record.public else f"{path}?{self.signer.sign('GET', record.id, self._seconds, record.owner)}"

    def write_url(self, base: str, record: FileRecord) -> str:
        """The URL for uploading the file's content."""
        signature = self.signer.sign("PUT", record.id, self._seconds, record.owner)
        return f"{base}/files/{record.id}/{quote(record.filename, safe='')}?{signature}"

    def externalize(self, value: Any, base: str, owner: str) -> Any:
        """The JSON value with every `mien-file://` URI replaced by a URL that is signed for files of `owner`."""

        def external(text: str) -> str:
            match = _URI.fullmatch(text) if text.startswith(SCHEME) else None
            if match is None:
                return text
            return f"{base}/files/{match[1]}/{match[2]}?{self.signer.sign('GET', match[1], self._seconds, owner)}"

        return _map_strings(value, external)

    def internalize(self, value: Any, base: str) -> Any:
        """The JSON value with every URL of one of this server's files replaced by its `mien-file://` URI.

        `base`: the URL at which the client reaches this server.
        """
        return _map_strings(value, lambda text: self._internal(text, base) if "/files/" in text else text)

    def _internal(self, text: str, base: str) -> str:
        try:
            url = urlsplit(_one_loopback(text))
        except ValueError:
            return text
        match = _PATH.fullmatch(url.path) if url.scheme in ("http", "https") else None
        if match is None:
            return text
        prefix, file = f"{url.scheme}://{url.netloc}{match[1]}", match[2]
        bases = {_one_loopback(known) for known in (base, self.public_url, *self._own) if known}
        if prefix not in bases and not self._has_signed(file, url.query):
            return text
        return f"{SCHEME}{file}/{quote(safe_name(unquote(match[3])), safe='')}"

    def _has_signed(self, file_id: str, query: str) -> bool:
        """Whether the URL carries a valid signature: then it is ours, whatever its host."""
        try:
            self.signer.check("GET", file_id, dict(parse_qsl(query)))
        except Forbidden:
            return False
        return True


def _one_loopback(url: str) -> str:
    """The URL with any name of the loopback host replaced by 127.0.0.1."""
    return _LOOPBACK.sub(r"\g<1>127.0.0.1", url, count=1)


async def replace_file_uris(value: Any, replace: Callable[[str], Awaitable[str]]) -> Any:
    """The JSON value with every `mien-file://` URI replaced by `replace(id)`, which is called once per URI."""
    known: dict[str, str] = {}
    for _, text in _strings(value):
        if text not in known and (found := file_id(text)) is not None:
            known[text] = await replace(found)
    return _map_strings(value, lambda text: known.get(text, text))


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
