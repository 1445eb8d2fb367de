"""PNG: the chunks that the pixels need.

Metadata can be a bomb of its own (compressed profiles and texts) or a flood of chunks, so the decoder does not see it.
Nor does it see the further frames of an animation.
"""

import struct
from dataclasses import dataclass

from mien.errors import ImageTruncated
from mien.vision.formats.orientation import (
    MOST_METADATA,
    exif_orientation,
    first_of,
    hex_orientation,
    inflated,
    xmp_orientation,
)
from mien.vision.formats.still import Still, check_size, cut_off, joined, most_pixels, too_many

MOST_CHUNKS = 65536
"""32 MB in the 8 kB that libpng writes at a time are 4,096."""
_START = 8
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_RAW_PROFILE = b"Raw profile type exif\0"
_XMP = b"XML:com.adobe.xmp\0"


def read_png(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Raises ImageTooLarge, ImageTruncated."""
    limit = most_pixels("PNG", max_pixels)
    view = memoryview(data)
    try:
        width, height = struct.unpack_from(">II", view, _START + 8)
    except struct.error:
        raise cut_off("PNG") from None
    check_size("PNG", width, height, limit)
    needed, said, at = [(0, _START)], _Orientations(), _START
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(view):
            break  # the decoder says what is missing
        length, kind = int.from_bytes(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        end = min(at + 12 + length, len(view))
        if kind in _PIXELS:
            if kind == b"IHDR" and at != _START:
                raise ImageTruncated("the PNG image is damaged: it has two headers")
            needed.append((at, end))
        else:
            said.read(kind, view[at + 8 : at + 8 + length])
        if kind == b"IEND":
            break
        at = end
    else:
        raise too_many("PNG", "chunks", MOST_CHUNKS)
    return Still("PNG", (width, height), joined(view, needed), first_of(said.exif, said.raw, said.xmp))


@dataclass(slots=True)
class _Orientations:
    """What each kind of metadata says."""

    exif: int | None = None
    raw: int | None = None
    """EXIF as ImageMagick used to store it."""
    xmp: int | None = None

    def read(self, kind: bytes, body: memoryview) -> None:
        """Read a chunk."""
        if kind == b"eXIf" and self.exif is None:
            self.exif = exif_orientation(body)
        elif len(body) > MOST_METADATA:
            return
        elif kind in (b"zTXt", b"tEXt") and body[: len(_RAW_PROFILE)] == _RAW_PROFILE and self.raw is None:
            text = body[len(_RAW_PROFILE) :]
            self.raw = hex_orientation(inflated(text[1:]) if kind == b"zTXt" else bytes(text))
        elif kind == b"iTXt" and body[: len(_XMP)] == _XMP and self.xmp is None:
            self.xmp = _orientation_of_text(body[len(_XMP) :])


def _orientation_of_text(body: memoryview) -> int | None:
    """In an iTXt chunk after its keyword: a flag, the compression, two texts that end with a zero, the text."""
    parts = bytes(body[2:]).split(b"\0", 2)
    if len(body) < 2 or len(parts) < 3:
        return None
    return xmp_orientation(inflated(parts[2]) if body[0] else parts[2])
