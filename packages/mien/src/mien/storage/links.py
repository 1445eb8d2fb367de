"""Files as they are named inside tasks, and the URLs that stand for them outside.

Outside, a file is an http(s) URL with a signature that expires; it is made anew each time a task is shown.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mien.errors import Forbidden
from mien.storage.file_records import SCHEME, FileRecord, safe_name
from mien.storage.signing import UrlSigner

_INSIDE = re.compile(r"mien-file://([a-z0-9]{26})/([^/?#]+)")
_PATH = re.compile(r"(.*)/files/([a-z0-9]{26})/([^/]+)")
_LOOPBACK = re.compile(r"^(https?://)(?:localhost|\[::1\])(?=[:/]|$)")


def inside(record: FileRecord) -> str:
    """The name of a stored file inside tasks."""
    return f"{SCHEME}{record.id}/{quote(record.filename, safe='')}"


def file_id(text: str) -> str | None:
    """The id in `mien-file://ID/NAME`; None for any other text."""
    match = _INSIDE.fullmatch(text)
    return None if match is None else match[1]


class Links:
    """URLs of files, for as long as the settings say."""

    def __init__(self, signer: UrlSigner, seconds: float, public_url: str | None, own_urls: Sequence[str]) -> None:
        """`public_url`: where this server is reached from outside; None: as each request says. `own_urls`: where it
        is reached from its own machine; the first is used where there is no request, as for webhooks."""
        self.signer = signer
        self._seconds = seconds
        self.public_url = None if public_url is None else public_url.rstrip("/")
        self._own = tuple(own_urls)
        self.default_base = self.public_url or self._own[0]

    def read_url(self, base: str, record: FileRecord) -> str:
        """Where the file can be read. A public one's URL has no signature."""
        path = f"{base}/files/{record.id}/{quote(record.filename, safe='')}"
        return path if record.public else f"{path}?{self.signer.sign('GET', record.id, self._seconds)}"

    def write_url(self, base: str, record: FileRecord) -> str:
        """Where the file's content is to be put."""
        signature = self.signer.sign("PUT", record.id, self._seconds)
        return f"{base}/files/{record.id}/{quote(record.filename, safe='')}?{signature}"

    def shown(self, value: Any, base: str) -> Any:
        """A task's value with every file as a URL."""
        if isinstance(value, str):
            match = _INSIDE.fullmatch(value) if value.startswith(SCHEME) else None
            if match is None:
                return value
            return f"{base}/files/{match[1]}/{match[2]}?{self.signer.sign('GET', match[1], self._seconds)}"
        if isinstance(value, dict):
            return {key: self.shown(item, base) for key, item in value.items()}
        if isinstance(value, list):
            return [self.shown(item, base) for item in value]
        return value

    def taken(self, text: str, base: str) -> str:
        """A URL of one of this server's files as `mien-file://…`; any other text as it is."""
        try:
            url = urlsplit(_one_loopback(text))
        except ValueError:
            return text
        match = _PATH.fullmatch(url.path) if url.scheme in ("http", "https") else None
        if match is None:
            return text
        place, file = f"{url.scheme}://{url.netloc}{match[1]}", match[2]
        bases = {_one_loopback(known) for known in (base, self.public_url, *self._own) if known}
        if place not in bases and not self._has_signed(file, url.query):
            return text
        return f"{SCHEME}{file}/{quote(safe_name(unquote(match[3])), safe='')}"

    def taken_in(self, value: Any, base: str) -> Any:
        """The JSON value with every URL of one of this server's files as `taken` has it."""
        return map_strings(value, lambda text: self.taken(text, base) if "/files/" in text else text)

    def _has_signed(self, file_id: str, query: str) -> bool:
        """Whether the URL is ours whatever its host: nobody else can have signed it."""
        try:
            self.signer.check("GET", file_id, dict(parse_qsl(query)))
        except Forbidden:
            return False
        return True


def _one_loopback(url: str) -> str:
    """The URL with one name for this machine, whichever of them it has."""
    return _LOOPBACK.sub(r"\g<1>127.0.0.1", url, count=1)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with every string (keys excepted) changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    return value


async def replace_inside(value: Any, replace: Callable[[str], Awaitable[str]]) -> Any:
    """The JSON value with every `mien-file://…` replaced by what `replace` makes of its id."""
    if isinstance(value, str):
        found = file_id(value) if value.startswith(SCHEME) else None
        return value if found is None else await replace(found)
    if isinstance(value, dict):
        return {key: await replace_inside(item, replace) for key, item in value.items()}
    if isinstance(value, list):
        return [await replace_inside(item, replace) for item in value]
    return value


def names_files(value: Any) -> list[tuple[str, str]]:
    """Where files are named in a JSON value, and their ids: `("image", "0123…")`."""
    found: list[tuple[str, str]] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, str):
            if value.startswith(SCHEME) and (known := file_id(value)) is not None:
                found.append((path, known))
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                walk(item, f"{path}[{number}]")

    walk(value, "")
    return found
