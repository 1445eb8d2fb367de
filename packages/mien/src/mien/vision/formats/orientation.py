"""The orientation (EXIF, 1..8) in metadata of untrusted origin. Damaged metadata is upright.

As in Pillow, EXIF comes first and XMP second. Writers store the orientation as any type of number and any number of
times, so all of these are read; Pillow reads all but bytes, browsers only a single SHORT.
"""

import re
import struct
import zlib

ORIENTATION = 0x0112
UPRIGHT = 1
MOST_METADATA = 1 << 20
"""Bytes of metadata, unpacked, in which an orientation is looked for."""
_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}
"""Types of numbers (TIFF 6.0), as `struct` has them; two are the parts of a fraction."""
_INLINE = 4
"""Bytes of values that are in the entry itself."""
_MOST_ENTRIES = 512
_ROTATED = {5, 6, 7, 8}
_EXIF_START = b"Exif\0\0"
_IN_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")


def tiff_orientation(tiff: bytes | memoryview) -> int | None:
    """The orientation (TIFF 6.0, "Orientation") in an EXIF block, which starts with a TIFF header; None without one."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            if struct.unpack_from(order + "H", tiff, at)[0] == ORIENTATION:
                return _entry(tiff, order, at)
    except struct.error:
        return None
    return None


def _entry(tiff: bytes | memoryview, order: str, at: int) -> int:
    """The orientation in the directory's entry at `at`."""
    kind, count = struct.unpack_from(order + "HI", tiff, at + 2)
    place, size = at + 8, struct.calcsize(order + _NUMBERS.get(kind, "")) * count
    if size > _INLINE:
        (place,) = struct.unpack_from(order + "I", tiff, place)
    return stored_orientation(order, kind, tiff[place : place + size])


def stored_orientation(order: str, kind: int, values: bytes | memoryview) -> int:
    """The orientation as the first of these values; `order` is as in `struct`, `kind` the type in TIFF."""
    try:
        value, *divisor = struct.unpack_from(order + _NUMBERS[kind], values)
    except (KeyError, struct.error):
        return UPRIGHT
    if divisor:
        value = value / divisor[0] if divisor[0] else 0
    return known(value)


def known(value: object) -> int:
    """The orientation of this number; upright for what is none."""
    return int(value) if isinstance(value, int | float) and value in range(1, 9) else UPRIGHT


def exif_orientation(block: bytes | memoryview) -> int | None:
    """The orientation in an EXIF block with or without the start that it has in JPEG; None without one."""
    marked = bytes(block[: len(_EXIF_START)]) == _EXIF_START
    return tiff_orientation(block[len(_EXIF_START) :] if marked else block)


def xmp_orientation(packet: bytes | memoryview) -> int | None:
    """The orientation in an XMP packet; None without one."""
    found = _IN_XMP.search(packet[:MOST_METADATA])
    return known(int(found[1])) if found else None


def hex_orientation(text: bytes) -> int | None:
    """The orientation in what ImageMagick calls a raw profile: three lines, then EXIF in hexadecimal digits."""
    try:
        return exif_orientation(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
    except ValueError:
        return None


def first_of(*orientations: int | None) -> int:
    """The first orientation that there is."""
    return next((value for value in orientations if value is not None), UPRIGHT)


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
