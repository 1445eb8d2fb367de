"""The orientation (EXIF, 1..8) in metadata of untrusted origin. Damaged metadata is upright."""

import re
import struct
import zlib

ORIENTATION = 0x0112
UPRIGHT = 1
MOST_METADATA = 1 << 20
"""Bytes of metadata, unpacked, in which an orientation is looked for."""
_SHORT = 3
_MOST_ENTRIES = 512
_ROTATED = {5, 6, 7, 8}
_EXIF_START = b"Exif\0\0"
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def tiff_orientation(tiff: bytes | memoryview) -> int:
    """The orientation (TIFF 6.0, "Orientation") in an EXIF block, which starts with a TIFF header."""
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


def exif_orientation(block: bytes | memoryview) -> int:
    """The orientation in an EXIF block with or without the start that it has in JPEG."""
    marked = bytes(block[: len(_EXIF_START)]) == _EXIF_START
    return tiff_orientation(block[len(_EXIF_START) :] if marked else block)


def xmp_orientation(packet: bytes | memoryview) -> int:
    """The orientation in an XMP packet."""
    found = _IN_XMP.search(packet[:MOST_METADATA])
    return int(found[1]) if found else UPRIGHT


def hex_orientation(text: bytes) -> int:
    """The orientation in what ImageMagick calls a raw profile: three lines, then EXIF in hexadecimal digits."""
    try:
        return exif_orientation(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
    except ValueError:
        return UPRIGHT


def inflated(packed: bytes | memoryview) -> bytes:
    """Metadata in zlib's format; nothing if it is damaged or larger than is read."""
    if len(packed) > MOST_METADATA:
        return b""
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, MOST_METADATA)
    except zlib.error:
        return b""
    return plain if unpacker.eof else b""


def turned(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height once the orientation has been applied."""
    return (height, width) if orientation in _ROTATED else (width, height)
