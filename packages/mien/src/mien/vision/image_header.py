"""Reads format, size and orientation from an image's header. Treats the bytes as untrusted and decodes no pixels."""

import struct
from dataclasses import dataclass

from mien import file_types
from mien.errors import ImageFormatUnsupported, ImageTruncated

FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
    "image/heif": "HEIF",
}
"""Pillow's names for the formats that this server reads, by media type."""
READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIF"
_SHOWN = 8
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
ORIENTATION = 0x0112
UPRIGHT = 1
_SHORT = 3
_MOST_ENTRIES = 512
_ROTATED = {5, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image."""

    format: str
    """JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIF."""
    width: int
    """In pixels, after applying the orientation: the width that `decode` returns."""
    height: int
    orientation: int
    """EXIF orientation 1..8 in the header; 1 if the format's reader applies it itself."""


def sniff(data: bytes | memoryview) -> str:
    """The format by Pillow's name for it: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIF.

    Raises ImageTruncated for empty data, ImageFormatUnsupported saying what was found for anything else.
    """
    head = bytes(data[:64])
    if not head:
        raise ImageTruncated("the image is empty: 0 bytes")
    kind = FORMATS.get(file_types.sniff(head) or "")
    if kind is not None:
        return kind
    raise ImageFormatUnsupported(f"not an image that this server reads ({READ}): the data {_found(head)}")


def jpeg_header(data: bytes | memoryview) -> Header:
    """Size and orientation from the marker segments before the first scan (ITU-T T.81, annex B)."""
    view, at, orientation = memoryview(data), 2, UPRIGHT
    try:
        while True:
            if view[at] != 0xFF:
                raise ImageTruncated("the JPEG is damaged: a marker is missing in its header")
            marker = view[at + 1]
            if marker == 0xFF or marker in _STANDALONE:  # fill byte; marker without a segment
                at += 1 if marker == 0xFF else 2
                continue
            if marker in (0xD9, 0xDA):
                raise ImageTruncated("the JPEG is damaged: it has no frame header")
            (length,) = struct.unpack_from(">H", view, at + 2)
            if marker in _START_OF_FRAME:
                height, width = struct.unpack_from(">HH", view, at + 5)
                break
            if marker == 0xE1 and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
                orientation = tiff_orientation(view[at + 10 : at + 2 + length])
            at += 2 + length
    except (IndexError, struct.error):
        raise ImageTruncated("the JPEG ends inside its header") from None
    if swaps_sides(orientation):
        width, height = height, width
    return Header("JPEG", width, height, orientation)


def tiff_orientation(tiff: bytes | memoryview) -> int:
    """The orientation (1..8, TIFF 6.0, "Orientation") in an EXIF block, which starts with a TIFF header.

    1 if the block lacks it or is damaged.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(min(count, _MOST_ENTRIES)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
            if tag == ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT
    return UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether applying the orientation swaps width and height."""
    return orientation in _ROTATED


def _found(head: bytes) -> str:
    start = head.lstrip().lower()
    guess = ""
    if start.startswith((b"<!do", b"<htm")):
        guess = "; is this an HTML page?"
    elif start.startswith((b"<svg", b"<?xm")):
        guess = "; SVG and XML are not read"
    elif start.startswith((b"{", b"[")):
        guess = "; is this JSON?"
    elif start.startswith(b"%pdf"):
        guess = "; this is a PDF"
    elif head[4:8] == b"ftyp":
        guess = "; is this a video?"
    elif start.startswith((b"data:", b"/9j/", b"ivbor")):
        guess = "; is this base64 text that should have been decoded?"
    return f"starts with {head[:_SHOWN]!r}{guess}"
