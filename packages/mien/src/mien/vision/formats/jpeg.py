"""JPEG (ITU-T T.81): the frame, what its scans cost to decode, and a file that has what the pixels need.

A scan is a pass over the whole image, whatever its size in the file: a progressive JPEG of 600 kB can have enough of
them to keep a core busy for minutes. So they are counted before decoding.

Files in the wild are odd without missing a pixel. What libjpeg passes over is left out of the decoder's file, and what
it only warns of is put right there: stray bytes between segments, a damaged or missing end marker, the version of JFIF,
unknown colour transforms. So what the decoder still complains of is the coded data.
"""

import math
import struct
from dataclasses import dataclass, field

import numpy as np

from mien.errors import ImageTruncated
from mien.vision.formats.orientation import exif_orientation, first_of, xmp_orientation
from mien.vision.formats.still import Still, check_size, cut_off, most_pixels, not_read, too_many

MOST_SCANS = 64
"""Usual are 1 to 12; encoders that search for the smallest file write up to 25."""
PASSES = 24
"""Samples over all scans, per pixel of the largest image: libjpeg's ten scans of a colour image pass 14 of them."""
_USUAL_PIXELS = 64_000_000
"""The largest image in this respect, unless the operator limits the pixels."""
_ARITHMETIC_COST = 2
"""Decoding a sample costs about twice as much as with Huffman codes, in the worst cases."""
MOST_SEGMENTS = 4096
"""An ICC profile has up to 255 segments, extended XMP one per 64 kB."""
END = b"\xff\xd9"
_START, _JFIF, _ADOBE = b"\xff\xd8", b"\xff\xe0", b"\xff\xee"
_BITS = 8
_HEIGHT_AT = 5
"""In a frame header."""
_SUBSAMPLED = frozenset({(1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (1, 4)})
"""Samples of brightness, and of black in CMYK, per sample of colour: across and down."""
_COMPONENTS, _MOST_COMPONENTS = frozenset({1, 3, 4}), 4
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_ARITHMETIC = frozenset({0xC9, 0xCA})
_FRAMES = frozenset({0xC0, 0xC1}) | _PROGRESSIVE | _ARITHMETIC
"""Start of frame: baseline, extended and progressive; Huffman or arithmetic coding."""
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - _FRAMES - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _FILL, _APP1, _RESTARTS = 0xDA, 0xFF, 0xE1, 0xDD
_TABLES = frozenset({0xC4, 0xCC, 0xDB, _RESTARTS})
"""Huffman tables, conditioning of arithmetic coding, quantization tables, restart interval."""
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_BETWEEN_SCANS = _TABLES | _STANDALONE | {_START_OF_SCAN, 0xDC, *range(0xE0, 0xF0), 0xFE}
"""And what libjpeg skips: the number of lines, APPn and comments."""
_NEEDED = _TABLES | _FRAMES | {_START_OF_SCAN, _JFIF[1], _ADOBE[1]}
"""By a decoder. JFIF and Adobe say how colours are stored."""
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_COEFFICIENTS = 64
_WHOLE_SCAN = bytes([0, _COEFFICIENTS - 1, 0])
"""How the header of a sequential scan ends: all coefficients, all of their bits."""
_UNKNOWN = 255
"""A coefficient of which no bit is known; else the lowest bit that is."""
_FIRST_LOOK, _LONGEST_LOOK = 4096, 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Component:
    """A colour component of a frame."""

    identity: int
    samples: int
    """In whole MCUs."""
    blocks: int
    """Of 8 × 8 samples, without what fills up MCUs."""
    bits: np.ndarray
    """[64] the lowest bit of each coefficient that the scans so far have brought; _UNKNOWN before the first."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame header."""

    width: int
    height: int
    coding: int
    """The second byte of its marker."""
    mcus: int
    unusual: bool
    """Its colours are subsampled in a way that the usual decoder does not know."""
    components: tuple[Component, ...]

    @property
    def progressive(self) -> bool:
        return self.coding in _PROGRESSIVE

    @property
    def arithmetic(self) -> bool:
        return self.coding in _ARITHMETIC

    @property
    def kind(self) -> str:
        """By the memory that it takes, as far as the frame tells."""
        if len(self.components) == 4:
            return "JPEG in CMYK"
        if self.unusual:
            return "JPEG by Pillow"
        return "JPEG in several scans" if self.progressive or self.arithmetic else "JPEG"

    @property
    def started(self) -> bool:
        """Every component has been in a scan."""
        return all(component.bits[0] != _UNKNOWN for component in self.components)

    @property
    def complete(self) -> bool:
        """The scans so far have brought every bit of every coefficient."""
        return not any(component.bits.any() for component in self.components)


@dataclass(slots=True)
class Walk:
    """What a walk from marker to marker has found."""

    frame: Frame | None = None
    exif: int | None = None
    xmp: int | None = None
    """Orientations."""
    scans: int = 0
    samples: int = 0
    """Over all scans."""
    parts: list[bytes | memoryview] = field(default_factory=list)
    """What the decoder needs, without the markers of start and end."""
    ended: bool = False
    """The image ends, not only the data."""
    interval: int = 0
    """MCUs between two restart markers; 0: there are none."""
    restarts_due: int = 0
    """Over all scans."""
    restarts: int = 0
    """Found in scans."""

    @property
    def complete(self) -> bool:
        """Nothing that follows is needed."""
        return self.scans > 0 and self.frame is not None and self.frame.complete

    @property
    def single(self) -> bool:
        """One scan has the whole image, so that libjpeg expects no other."""
        return self.scans == 1 and self.complete


def read_jpeg(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Raises ImageTooLarge, ImageTruncated, ImageFormatUnsupported."""
    found = walk(memoryview(data), max_pixels)
    if found.frame is None:
        raise ImageTruncated("the JPEG is damaged: it has no frame header")
    if not found.scans:
        raise ImageTruncated("the JPEG ends inside its header")
    if not found.ended and not found.complete:
        raise ImageTruncated("the JPEG ends before its last scan; was the upload incomplete?")
    if not found.ended and found.restarts < found.restarts_due:
        raise ImageTruncated("the JPEG ends before its last pixel; was the upload incomplete?")
    if not found.ended and (found.frame.arithmetic or found.frame.unusual):
        # their decoders do not notice what is missing
        raise ImageTruncated("the JPEG has no end marker; was the upload incomplete?")
    if found.restarts < found.restarts_due:
        raise ImageTruncated(f"the JPEG is damaged: it has {found.restarts} of {found.restarts_due} restart markers")
    if not found.frame.started:
        raise ImageTruncated("the JPEG is damaged: it has no data of one of its colour components")
    number = len(found.frame.components)
    if number not in _COMPONENTS:
        raise not_read("JPEG", f"{number} colour components")
    inks = number == 4
    parts = [_without_warnings(part, inks) for part in found.parts]
    return Still(
        "JPEG",
        (found.frame.width, found.frame.height),
        b"".join([_START, *parts, END]),
        first_of(found.exif, found.xmp),
        cmyk=inks,
        shrinks=not found.frame.unusual,
        height_at=_height_at(parts) if found.single and not found.interval else None,
        ended=found.ended,
    )


def _height_at(parts: list[bytes | memoryview]) -> int | None:
    """Where the height is in the file of these parts."""
    at = len(_START)
    for part in parts:
        if part[0] == _FILL and part[1] in _FRAMES:
            return at + _HEIGHT_AT
        at += len(part)
    return None


def walk(view: memoryview, max_pixels: int | None) -> Walk:
    """Go from marker to marker as libjpeg does, up to the end of the image, within the budget."""
    found, at, coded, segments = Walk(), 2, False, 0
    while True:
        place, restarts = _next_marker(view, at)
        if coded:
            found.parts.append(view[at:place])
            found.restarts += restarts
        if place + 4 > len(view) and found.frame is None:
            raise ImageTruncated("the JPEG ends inside its header")
        if place == len(view):
            return found
        marker = view[place + 1]
        if marker == END[1] or found.single or (found.complete and marker not in _BETWEEN_SCANS):
            found.ended = True
            return found
        segments += marker not in _STANDALONE
        if segments > MOST_SEGMENTS:
            raise too_many("JPEG", "segments", MOST_SEGMENTS)
        at, coded = _segment_end(view, marker, place), marker == _START_OF_SCAN
        if at > len(view):
            return found  # cut off within a segment
        _segment(view[place:at], found, max_pixels)


def _segment_end(view: memoryview, marker: int, place: int) -> int:
    """Where a segment ends; after the data if its length is not there."""
    if marker in _STANDALONE:
        return place + 2
    if place + 4 > len(view):
        return len(view) + 1
    return place + 2 + max(2, int.from_bytes(view[place + 2 : place + 4]))


def _segment(segment: memoryview, found: Walk, max_pixels: int | None) -> None:
    """Take what is needed of a segment."""
    marker = segment[1]
    if marker in _FRAMES:
        if found.frame is not None:
            raise ImageTruncated("the JPEG is damaged: it has two frame headers")
        found.frame = _frame(segment)
        _check_size(found.frame, found.frame.kind, max_pixels)
    elif marker in _OTHER_FRAMES:
        raise not_read("JPEG", "lossless or hierarchical coding, be it Huffman or arithmetic")
    elif marker == _START_OF_SCAN:
        _count_scan(segment, found, max_pixels)
    elif marker == _APP1 and not found.scans:
        _read_orientation(segment[4:], found)
    elif marker not in _BETWEEN_SCANS:
        raise ImageTruncated(f"the JPEG is damaged: it has a marker 0x{marker:02x}")
    elif marker == _RESTARTS and len(segment) == 6:
        found.interval = int.from_bytes(segment[4:])
    if marker == _START_OF_SCAN and found.frame is not None and not found.frame.progressive:
        found.parts += [segment[:-3], _WHOLE_SCAN]
    elif marker in _NEEDED:
        found.parts.append(segment)


def _check_size(frame: Frame, kind: str, max_pixels: int | None) -> None:
    check_size("JPEG", frame.width, frame.height, most_pixels(kind, max_pixels))


def _frame(segment: memoryview) -> Frame:
    try:
        bits, height, width, number = struct.unpack_from(">BHHB", segment, 4)
        if not 1 <= number <= _MOST_COMPONENTS:
            raise ImageTruncated(f"the JPEG is damaged: it has {number} colour components")
        given = [(segment[at], segment[at + 1] >> 4, segment[at + 1] & 15) for at in range(10, 10 + 3 * number, 3)]
    except (struct.error, IndexError):
        raise cut_off("JPEG") from None
    if bits != _BITS:
        raise not_read("JPEG", f"{bits} bits per sample")
    across = max(h for _, h, _ in given) or 1
    down = max(v for _, _, v in given) or 1
    mcus = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
    components = [
        Component(
            identity,
            64 * mcus * h * v,
            math.ceil(width * h / (8 * across)) * math.ceil(height * v / (8 * down)),
            np.full(_COEFFICIENTS, _UNKNOWN, np.uint8),
        )
        for identity, h, v in given
    ]
    factors = [(h, v) for _, h, v in given]
    usual = number < 3 or (factors[0] in _SUBSAMPLED and factors[1:] == [(1, 1), (1, 1), factors[0]][: number - 1])
    return Frame(width, height, segment[1], mcus, not usual, tuple(components))


def _count_scan(segment: memoryview, found: Walk, max_pixels: int | None) -> None:
    if found.frame is None:
        raise ImageTruncated("the JPEG is damaged: it has no frame header")
    number = segment[4] if len(segment) > 4 else 0
    if len(segment) != 8 + 2 * number:
        raise ImageTruncated("the JPEG is damaged: the header of a scan has a wrong length")
    chosen = _components_of(segment[5 : 5 + 2 * number : 2], found.frame)
    first, last, low = (0, _COEFFICIENTS - 1, 0)
    if found.frame.progressive:
        first, last, low = segment[-3], segment[-2], segment[-1] & 15
    if number < len(found.frame.components) and found.frame.kind == "JPEG":
        _check_size(found.frame, "JPEG in several scans", max_pixels)
    found.scans += 1
    if found.interval:
        mcus = chosen[0].blocks if number == 1 else found.frame.mcus
        found.restarts_due += max(0, math.ceil(mcus / found.interval) - 1)
    for component in chosen:
        component.bits[first : last + 1] = low
        found.samples += component.samples * (_ARITHMETIC_COST if found.frame.arithmetic else 1)
    if found.scans > MOST_SCANS:
        raise too_many("JPEG", "scans", MOST_SCANS)
    if found.samples > PASSES * (max_pixels or _USUAL_PIXELS):
        raise too_many("JPEG", f"scans of {found.frame.width}x{found.frame.height} pixels", found.scans - 1)


def _components_of(identities: memoryview, frame: Frame) -> list[Component]:
    """The components of a scan: of several with the same name, one after the other, as in libjpeg."""
    left, chosen = list(frame.components), []
    for identity in identities:
        component = next((one for one in left if one.identity == identity), None)
        if component is None:
            raise ImageTruncated("the JPEG is damaged: a scan has a component that the frame header does not have")
        left.remove(component)
        chosen.append(component)
    return chosen


def _read_orientation(content: memoryview, found: Walk) -> None:
    if found.exif is None and content[: len(_EXIF)] == _EXIF:
        found.exif = exif_orientation(content)
    elif found.xmp is None and content[: len(_XMP)] == _XMP:
        found.xmp = xmp_orientation(content)


def _without_warnings(part: bytes | memoryview, inks: bool) -> bytes | memoryview:
    """A segment with values that libjpeg knows, in place of values that it ignores with a warning."""
    head = bytes(part[:16])
    if head[:2] == _JFIF and head[4:9] == b"JFIF\0" and len(part) > len(head):
        return b"".join([part[:9], b"\1", part[10:]])  # the major version
    if head[:2] == _ADOBE and head[4:9] == b"Adobe" and len(head) == 16:
        known, assumed = ({0, 2}, b"\2") if inks else ({0, 1}, b"\1")
        return part if head[15] in known else b"".join([part[:15], assumed, part[16:]])  # the colour transform
    return part


def _next_marker(view: memoryview, at: int) -> tuple[int, int]:
    """Where the next marker is, or the end if there is none, and how many restart markers come before it.

    A marker is 0xFF before neither a stuffed zero nor a fill byte. By numpy, which does not hold the interpreter lock.
    """
    look, restarts = _FIRST_LOOK, 0
    while at + 1 < len(view):
        part = np.frombuffer(view[at : at + look + 1], np.uint8)
        places = np.flatnonzero(part[:-1] == 0xFF)
        codes = part[places + 1]
        places, codes = places[(codes != 0) & (codes != _FILL)], codes[(codes != 0) & (codes != _FILL)]
        other = np.flatnonzero((codes < 0xD0) | (codes > 0xD7))
        if len(other):
            return at + int(places[other[0]]), restarts + int(other[0])
        at, look, restarts = at + look, min(4 * look, _LONGEST_LOOK), restarts + len(places)
    return len(view), restarts
