"""JPEG (ITU-T T.81): the frame, and what its scans cost to decode.

A scan is a pass over the whole image, whatever its size in the file: a progressive JPEG of 600 kB can have enough of
them to keep a core busy for minutes. So they are counted before decoding.
"""

import math
import struct
from dataclasses import dataclass, field

import numpy as np

from mien.errors import ImageTruncated
from mien.vision.formats.orientation import UPRIGHT, exif_orientation
from mien.vision.formats.still import Still, check_size, joined, not_read, too_many

MOST_SCANS = 64
"""Usual are 1 to 12; encoders that search for the smallest file write up to 25."""
PASSES = 24
"""Samples over all scans, per pixel of the largest image: libjpeg's ten scans of a colour image pass 14 of them."""
MOST_SEGMENTS = 4096
"""An ICC profile has up to 255 segments, extended XMP one per 64 kB."""
_MOST_COMPONENTS = 4
_READ = frozenset({0xC0, 0xC1, 0xC2})
"""Start of frame: baseline, extended and progressive, Huffman-coded."""
_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - _READ - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END, _EXIF, _FILL = 0xDA, 0xD9, 0xE1, 0xFF
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_RESERVED = range(0x01, 0xC0)
_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""APPn and comments; APP0 (JFIF) and APP14 (Adobe) stay, since they say how colours are stored."""
_FIRST_LOOK, _LONGEST_LOOK = 4096, 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame header."""

    width: int
    height: int
    samples: dict[int, int]
    """Samples in whole MCUs, by component."""


@dataclass(slots=True)
class Walk:
    """What a walk from marker to marker has found."""

    frame: Frame | None = None
    orientation: int = UPRIGHT
    scans: int = 0
    samples: int = 0
    """Over all scans."""
    metadata: list[tuple[int, int]] = field(default_factory=list)
    """Start and end of segments that no decoder needs."""
    end: int = 0
    """Where the image ends in the data."""


def read_jpeg(data: bytes | memoryview, max_pixels: int) -> Still:
    """Raises ImageTooLarge, ImageTruncated, ImageFormatUnsupported."""
    view = memoryview(data)
    found = walk(view, max_pixels)
    if found.frame is None:
        raise ImageTruncated("the JPEG is damaged: it has no frame header")
    starts = [0, *(end for _, end in found.metadata)]
    ends = [*(start for start, _ in found.metadata), found.end]
    needed = joined(view, zip(starts, ends, strict=True))
    return Still(
        "JPEG", (found.frame.width, found.frame.height), needed, found.orientation, cmyk=len(found.frame.samples) == 4
    )


def walk(view: memoryview, max_pixels: int) -> Walk:
    """Go from marker to marker as libjpeg does, up to the end of the image, within the budget."""
    found, at, segments = Walk(end=len(view)), 2, 0
    try:
        while True:
            if found.scans:
                at = _next_marker(view, at)
            elif view[at] != 0xFF:
                raise ImageTruncated("the JPEG is damaged: a marker is missing in its header")
            marker = view[at + 1]
            if marker == _FILL or marker in _STANDALONE:
                at += 1 if marker == _FILL else 2
                continue
            if marker == _END:
                found.end = at + 2
                return found
            segments += 1
            if segments > MOST_SEGMENTS:
                raise too_many("JPEG", "segments", MOST_SEGMENTS)
            end = at + 2 + struct.unpack_from(">H", view, at + 2)[0]
            _segment(view, marker, at, end, found, max_pixels)
            at = end
    except (IndexError, struct.error):
        if found.frame is None:
            raise ImageTruncated("the JPEG ends inside its header") from None
        return found  # the decoder says what is missing


def _segment(view: memoryview, marker: int, at: int, end: int, found: Walk, max_pixels: int) -> None:
    if marker in _READ:
        if found.frame is not None:
            raise ImageTruncated("the JPEG is damaged: it has two frame headers")
        found.frame = _frame(view, at)
        check_size("JPEG", found.frame.width, found.frame.height, max_pixels)
    elif marker in _OTHER_FRAMES:
        raise not_read("JPEG", "lossless, hierarchical or arithmetic coding")
    elif marker == _START_OF_SCAN:
        _count_scan(view, at, found, max_pixels)
    elif marker in _RESERVED:
        raise ImageTruncated(f"the JPEG is damaged: it has a marker 0x{marker:02x}")
    elif marker in _METADATA:
        if marker == _EXIF and found.frame is None and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
            found.orientation = exif_orientation(view[at + 4 : end])
        found.metadata.append((at, min(end, len(view))))


def _frame(view: memoryview, at: int) -> Frame:
    height, width, components = struct.unpack_from(">HHB", view, at + 5)
    if not 1 <= components <= _MOST_COMPONENTS:
        raise ImageTruncated(f"the JPEG is damaged: it has {components} colour components")
    given = [(view[i], view[i + 1] >> 4, view[i + 1] & 15) for i in range(at + 10, at + 10 + 3 * components, 3)]
    across = max(h for _, h, _ in given) or 1
    down = max(v for _, _, v in given) or 1
    mcus = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
    return Frame(width, height, {identity: 64 * mcus * h * v for identity, h, v in given})


def _count_scan(view: memoryview, at: int, found: Walk, max_pixels: int) -> None:
    if found.frame is None:
        raise ImageTruncated("the JPEG is damaged: it has no frame header")
    components = [view[i] for i in range(at + 5, at + 5 + 2 * view[at + 4], 2)]
    found.scans += 1
    found.samples += sum(found.frame.samples.get(identity, 0) for identity in components)
    if found.scans > MOST_SCANS:
        raise too_many("JPEG", "scans", MOST_SCANS)
    if found.samples > PASSES * max_pixels:
        raise too_many("JPEG", f"scans of {found.frame.width}x{found.frame.height} pixels", found.scans - 1)


def _next_marker(view: memoryview, at: int) -> int:
    """Where the next marker is that ends coded data: 0xFF and neither a stuffed zero, a restart nor a fill byte.

    By numpy, which does not hold the interpreter lock. Raises IndexError if there is none.
    """
    look = _FIRST_LOOK
    while at + 1 < len(view):
        part = np.frombuffer(view[at : at + look + 1], np.uint8)
        places = np.flatnonzero(part[:-1] == 0xFF)
        codes = part[places + 1]
        places = places[(codes != 0) & (codes != _FILL) & ((codes < 0xD0) | (codes > 0xD7))]
        if len(places):
            return at + int(places[0])
        at, look = at + look, min(4 * look, _LONGEST_LOOK)
    raise IndexError("the data ends without a marker")
