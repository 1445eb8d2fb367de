"""Files as they are named inside tasks, and the URLs that stand for them outside.

Outside, a file is an http(s) URL with a signature that expires; it is made anew each time a task is shown.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mien.storage.file_records import SCHEME, FileRecord, safe_name
from mien.storage.signing import UrlSigner

_INSIDE = re.compile(r"mien-file://([a-z0-9]{26})/([^/?#]+)")
_PATH = re.compile(r"/files/([a-z0-9]{26})/([^/]+)")
MAX_DEPTH = 200


def inside(record: FileRecord) -> str:
    """The name of a stored file inside tasks."""
    return f"{SCHEME}{record.id}/{quote(record.filename, safe='')}"


def file_id(text: str) -> str | None:
    """The id in `mien-file://ID/NAME`; None for any other text."""
    match = _INSIDE.fullmatch(text)
    return None if match is None else match[1]


class Links:
    """URLs of files, for as long as the settings say."""

    def __init__(self, signer: UrlSigner, seconds: float, public_url: str | None, own_url: str) -> None:
        """`public_url`: where this server is reached from outside; None: as each request says. `own_url`: where there
        is no request, as for webhooks."""
        self.signer = signer
        self._seconds = seconds
        self.public_url = None if public_url is None else public_url.rstrip("/")
        self.default_base = self.public_url or own_url

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
        for known in dict.fromkeys((base, self.public_url, self.default_base)):
            if known and text.startswith(f"{known}/"):
                match = _PATH.fullmatch(urlsplit(text).path.removeprefix(urlsplit(known).path))
                if match is not None:
                    return f"{SCHEME}{match[1]}/{quote(safe_name(unquote(match[2])), safe='')}"
        return text


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
