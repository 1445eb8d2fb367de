"""PNG: the chunks that the pixels need.

Metadata can be a bomb of its own (compressed profiles and texts) or a flood of chunks, so the decoder does not see it.
Nor does it see the further frames of an animation.
"""

import struct

from mien.errors import ImageTruncated
from mien.vision.formats.orientation import (
    MOST_METADATA,
    UPRIGHT,
    exif_orientation,
    hex_orientation,
    inflated,
    xmp_orientation,
)
from mien.vision.formats.still import Still, check_size, cut_off, joined, too_many

MOST_CHUNKS = 65536
"""32 MB in the 8 kB that libpng writes at a time are 4,096."""
_START = 8
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_RAW_PROFILE = b"Raw profile type exif\0"
_XMP = b"XML:com.adobe.xmp\0"


def read_png(data: bytes | memoryview, max_pixels: int) -> Still:
    """Raises ImageTooLarge, ImageTruncated."""
    view = memoryview(data)
    try:
        width, height = struct.unpack_from(">II", view, _START + 8)
    except struct.error:
        raise cut_off("PNG") from None
    check_size("PNG", width, height, max_pixels)
    needed, orientation, at = [(0, _START)], UPRIGHT, _START
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(view):
            break  # the decoder says what is missing
        length, kind = int.from_bytes(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        end = min(at + 12 + length, len(view))
        if kind in _PIXELS:
            if kind == b"IHDR" and at != _START:
                raise ImageTruncated("the PNG image is damaged: it has two headers")
            needed.append((at, end))
        elif orientation == UPRIGHT and length <= MOST_METADATA:
            orientation = _orientation(kind, view[at + 8 : at + 8 + length])
        if kind == b"IEND":
            break
        at = end
    else:
        raise too_many("PNG", "chunks", MOST_CHUNKS)
    return Still("PNG", (width, height), joined(view, needed), orientation)


def _orientation(kind: bytes, body: memoryview) -> int:
    if kind == b"eXIf":
        return exif_orientation(body)
    if kind in (b"zTXt", b"tEXt") and body[: len(_RAW_PROFILE)] == _RAW_PROFILE:
        text = body[len(_RAW_PROFILE) :]
        return hex_orientation(inflated(text[1:]) if kind == b"zTXt" else bytes(text))
    if kind == b"iTXt" and body[: len(_XMP)] == _XMP:
        return _orientation_of_text(body[len(_XMP) :])
    return UPRIGHT


def _orientation_of_text(body: memoryview) -> int:
    """In an iTXt chunk after its keyword: a flag, the compression, two texts that end with a zero, the text."""
    parts = bytes(body[2:]).split(b"\0", 2)
    if len(body) < 2 or len(parts) < 3:
        return UPRIGHT
    return xmp_orientation(inflated(parts[2]) if body[0] else parts[2])
