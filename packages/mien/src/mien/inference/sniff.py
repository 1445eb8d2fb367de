"""The media type of a payload: as the client declared it, else sniffed from its content."""

import codecs
import re

from mien.errors import ImageError, InvalidField
from mien.vision.image_format import sniff

TEXT = "text/plain"
BINARY = "application/octet-stream"
IMAGES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}
"""Media types by the image formats that this server reads."""

LOOK = 65536  # number of bytes examined: enough to decide, and bounds the time for large payloads
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_SAME = {"image/jpg": "image/jpeg", "image/heif": "image/heic", "image/x-png": "image/png"}
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def media_type(data: bytes | memoryview, declared: str | None = None) -> str:
    """The media type of `data` in lower case and without parameters: `declared` if it is specific, else sniffed.

    Sniffing yields an image type by magic number, else `text/plain` if the first 64 KiB are UTF-8, else
    `application/octet-stream`. Takes constant time. Raises InvalidField if `declared` is not a media type.
    """
    given = bare(declared or "")
    return given if given not in ("", BINARY) else _looks_like(data)


def bare(declared: str) -> str:
    """A media type without its parameters, in its canonical spelling; empty if none is declared.

    Raises InvalidField for text that is not a media type.
    """
    kind = declared.partition(";")[0].strip().lower()
    if kind and not _TYPE.fullmatch(kind):
        message = f"payload_mime: expected a media type such as image/jpeg; got {declared[:60]!r}"
        raise InvalidField(message, ({"type": "media_type", "loc": ["payload_mime"], "msg": message},))
    return _SAME.get(kind, kind)


def _looks_like(data: bytes | memoryview) -> str:
    head = _as_text(bytes(data[:LOOK]), whole=len(data) <= LOOK)
    try:
        kind = IMAGES[sniff(data)]
    except ImageError:
        return BINARY if head is None else TEXT
    # Plain text can start with a magic number (BM, GIF89a, RIFF…WEBP), but the header of an image also contains control
    # characters.
    return TEXT if head is not None and not _CONTROLS.search(head) else kind


def _as_text(head: bytes, *, whole: bool) -> str | None:
    """Decoded UTF-8, or None if it is invalid. Unless `whole`, the last character may be incomplete."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None
