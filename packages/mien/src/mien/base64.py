"""Lenient base64 decoding with precise error messages."""

import binascii
import io
import re

import pybase64

from mien.errors import ImageError, ImageTooLarge

PIECE = 256 * 1024
"""Characters decoded in one go, a multiple of 4: the interpreter lock is held meanwhile."""
_WHITESPACE = b" \t\r\n\v\f"
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_HEAD = 512
_DATA_URI = re.compile(rb"\s*data:[^,]{0,200}?;base64,", re.IGNORECASE)


def decode_base64(text: str | bytes | memoryview, *, max_bytes: int) -> bytes:
    """The bytes encoded in `text`.

    A `data:…;base64,` prefix, whitespace anywhere, the URL-safe alphabet and missing padding are all accepted. Raises
    ImageTooLarge if the result would exceed `max_bytes`, ImageError for invalid text.
    """
    decoder = _Decoder(max_bytes)
    for at in range(_prefix(_ascii(text[:_HEAD], 0)), len(text), PIECE):
        decoder.add(_ascii(text[at : at + PIECE], at))
    return decoder.finish()


def _ascii(text: str | bytes | memoryview, at: int) -> bytes:
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise ImageError(f"base64 text holds the character {text[error.start]!r} at {at + error.start}") from None


def _prefix(head: bytes) -> int:
    """The length of a data URI's part before the text; 0 without one."""
    if head[:64].lstrip()[:5].lower() != b"data:":
        return 0
    if prefix := _DATA_URI.match(head):
        return prefix.end()
    raise ImageError("a data URI must read data:TYPE;base64,TEXT: ';base64,' is missing")


class _Decoder:
    """Decodes text that comes in pieces."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._decoded = io.BytesIO()  # its value is not copied
        self._rest = b""
        """The characters of an incomplete group."""
        self._count = 0
        """Characters without whitespace and padding."""
        self._padding = 0

    def add(self, piece: bytes) -> None:
        """Decode the next piece. Raises ImageTooLarge, ImageError."""
        if not self._rest and not self._padding and len(piece) % 4 == 0:
            try:
                self._write(pybase64.b64decode(piece, validate=True))
            except binascii.Error:
                pass
            else:
                body = piece.rstrip(b"=")
                self._count += len(body)
                self._padding = len(piece) - len(body)
                return
        self._add_loosely(piece.translate(_STANDARD, _WHITESPACE))

    def finish(self) -> bytes:
        """What the whole text encodes. Raises ImageTooLarge, ImageError."""
        if self._padding > 2:
            raise ImageError("base64 text ends in more than two '='")
        if len(self._rest) == 1:
            raise ImageError(f"base64 text of {self._count} characters is incomplete: was it cut off?")
        self._write(pybase64.b64decode(self._rest + b"=" * (-len(self._rest) % 4), validate=True))
        return self._decoded.getvalue()

    def _add_loosely(self, bare: bytes) -> None:
        """`bare`: in the standard alphabet, without whitespace."""
        if foreign := bare.translate(None, _ALPHABET + b"="):
            raise ImageError(f"base64 text holds the character {chr(foreign[0])!r}")
        body = bare.rstrip(b"=")
        if b"=" in body or (body and self._padding):
            raise ImageError("base64 text goes on after its padding ('='); are these several texts in one?")
        self._count += len(body)
        self._padding += len(bare) - len(body)
        body = self._rest + body
        whole = len(body) // 4 * 4
        self._rest = body[whole:]
        self._write(pybase64.b64decode(body[:whole], validate=True))

    def _write(self, decoded: bytes) -> None:
        if self._decoded.tell() + len(decoded) > self._max_bytes:
            raise ImageTooLarge(
                f"the base64 text holds more than {self._max_bytes} bytes, the most that this server reads"
            )
        self._decoded.write(decoded)
