"""`data:` URIs (RFC 2397), as leniently as browsers and clients require."""

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from infsh._errors import FileUnavailable

_SPACE = re.compile(rb"\s+")
_QUOTES = str.maketrans("", "", '"')


@dataclass(frozen=True, slots=True)
class DataHeader:
    """The part before the comma."""

    content_type: str
    """Without parameters; `text/plain` if the URI has none."""
    is_base64: bool
    filename: str | None
    """From a `name` or `filename` parameter."""


def header(uri: str) -> DataHeader:
    """Raises FileUnavailable if there is no comma."""
    head, _ = _split(uri)
    parts = [part.strip() for part in head.split(";")]
    parameters = {
        key.strip().lower(): unquote_to_bytes(value.translate(_QUOTES)).decode("utf-8", "replace")
        for key, separator, value in (part.partition("=") for part in parts[1:])
        if separator
    }
    name = parameters.get("filename") or parameters.get("name")
    content_type = parts[0].lower() if "/" in parts[0] else "text/plain"
    return DataHeader(content_type, any(part.lower() == "base64" for part in parts[1:]), name)


def decode(uri: str) -> bytes:
    """The data. Base64 may be URL-safe, unpadded, wrapped or percent-encoded. Raises FileUnavailable."""
    _, rest = _split(uri)
    data = unquote_to_bytes(rest)
    if not header(uri).is_base64:
        return data
    text = _SPACE.sub(b"", data).rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise FileUnavailable(f"the data: URI is not valid base64: {error}") from error


def _split(uri: str) -> tuple[str, str]:
    head, comma, rest = uri[len("data:") :].partition(",")
    if not comma:
        raise FileUnavailable("a data: URI needs a comma before its data")
    return head, rest
