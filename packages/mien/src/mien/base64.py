"""Lenient base64 decoding with precise error messages."""

import binascii
import re

import pybase64

from mien.errors import ImageError, ImageTooLarge

_WHITESPACE = b" \t\r\n\v\f"
_DATA_URI = re.compile(rb"\s*data:[^,]{0,200}?;base64,", re.IGNORECASE)
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/=_-]")


def decode_base64(text: str | bytes | memoryview, *, max_bytes: int) -> bytes:
    """The bytes encoded in `text`.

    A `data:…;base64,` prefix, whitespace anywhere, the URL-safe alphabet and missing padding are all accepted. Raises
    ImageTooLarge if the result would exceed `max_bytes` (before anything is decoded), ImageError for invalid text.
    """
    encoded = _body(_ascii(text))
    if len(encoded) * 3 // 4 > max_bytes and _bare_length(encoded) * 3 // 4 > max_bytes:
        raise ImageTooLarge(f"the base64 text holds more than {max_bytes} bytes, the most that this server reads")
    try:
        return pybase64.b64decode(encoded, validate=True)
    except binascii.Error:
        return _decode_loosely(encoded)


def _ascii(text: str | bytes | memoryview) -> bytes:
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise ImageError(f"base64 text holds the character {text[error.start]!r} at {error.start}") from None


def _body(encoded: bytes) -> bytes:
    """The text after a data URI's comma; all of it if it is not a data URI."""
    if encoded[:64].lstrip()[:5].lower() != b"data:":
        return encoded
    if prefix := _DATA_URI.match(encoded):
        return encoded[prefix.end() :]
    raise ImageError("a data URI must read data:TYPE;base64,TEXT: ';base64,' is missing")


def _bare_length(encoded: bytes) -> int:
    """Number of characters that encode data: without whitespace and padding."""
    return len(encoded) - sum(encoded.count(character) for character in _WHITESPACE + b"=")


def _decode_loosely(encoded: bytes) -> bytes:
    """Decode text that the strict decoder rejects for whitespace, the URL-safe alphabet or missing padding only."""
    bare = encoded.translate(None, _WHITESPACE)
    if foreign := _FOREIGN.search(bare):
        raise ImageError(f"base64 text holds the character {chr(foreign.group()[0])!r}")
    body = bare.rstrip(b"=")
    if b"=" in body:
        raise ImageError("base64 text goes on after its padding ('='); are these several texts in one?")
    if len(bare) - len(body) > 2:
        raise ImageError("base64 text ends in more than two '='")
    if len(body) % 4 == 1:
        raise ImageError(f"base64 text of {len(body)} characters is incomplete: was it cut off?")
    padded = body.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(body) % 4)
    return pybase64.b64decode(padded, validate=True)
