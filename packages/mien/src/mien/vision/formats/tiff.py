"""TIFF 6.0 and BigTIFF: the first image, with the tags that its pixels need.

A file of a few kilobytes can name tiles much larger than the image, have the same bytes decoded again and again, or
hold tags whose values overlap; so all of that is bounded before a decoder sees the file.
"""

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mien.errors import ImageError, ImageTruncated
from mien.vision.formats.jpeg import PASSES, walk
from mien.vision.formats.orientation import ORIENTATION, first_of, stored_orientation, xmp_orientation
from mien.vision.formats.raw import raw_format_in_tiff, raw_refused
from mien.vision.formats.still import (
    SPARE_PIXELS,
    Still,
    check_size,
    check_tiles,
    cut_off,
    most_pixels,
    not_read,
    too_many,
)

MOST_TAGS = 512
MOST_PIECES = 32768
"""Strips or tiles."""
MOST_BITS = 64
"""Per pixel: four samples of 16 bits."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PLANES = 256, 257, 258, 259, 277, 284
_STRIPS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_COLOURS = 320
_NEEDED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PLANES, _STRIPS, _STRIP_ROWS, _STRIP_BYTES}
    | {_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _COLOURS}
    | {262, 266, 292, 293, 317, 338, 339, 347, 530, 531, 532}
)
"""And photometric interpretation, fill order, options of T.4 and T.6, predictor, extra samples, sample format, JPEG
tables, subsampling, positioning and reference levels of YCbCr."""
_KIND, _MAKE, _PHOTOMETRIC, _PARTS, _XMP, _DNG = 254, 271, 262, 330, 700, 50706
_ABOUT = frozenset({ORIENTATION, _KIND, _MAKE, _PARTS, _XMP, _DNG})
"""What is looked at here and not handed to a decoder. Damage there costs no pixel."""
_REDUCED = 1
"""A bit of the kind of image: a smaller copy of another one in the file."""
_SENSOR = frozenset({32803, 34892})
"""Photometric interpretations of camera raw: the mosaic of a sensor's colour filters, and linear values of it."""
_OFFSETS = {4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""NumPy's names of the types LONG, IFD, LONG8 and IFD8."""
_MOST_OTHERS = 16
"""Images that are looked at beside the first; a raw file has up to five."""
_LONGEST_NAME = 64
_SEPARATE, _SUBSAMPLED = 2, 6
"""Planes, one after the other; YCbCr, of which there may be fewer colours than pixels."""
_JPEG, _UNCOMPRESSED = 7, 1
_COMPRESSIONS = {_UNCOMPRESSED, 2, 3, 4, 5, _JPEG, 8, 32946, 32773}
"""None, CCITT RLE, T.4, T.6, LZW, JPEG, deflate (two numbers), PackBits."""
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
"""NumPy's names of the types BYTE, SHORT, LONG and LONG8."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, by type."""
_LONGEST = 3 << 16
"""Values of one tag: the colours of 16 bits."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Classic TIFF or BigTIFF, in one of two byte orders."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Tag, type, number of values."""
        return self.order + ("HHQ" if self.big else "HHI")


@dataclass(frozen=True, slots=True)
class _Tag:
    raw: bytes
    """The entry as it is in the file."""
    type: int
    count: int
    values: memoryview


class _Image:
    """An image of a file."""

    def __init__(self, view: memoryview, start: int | None = None) -> None:
        """`start`: where its directory is, if it is not the first one."""
        order, version = {b"II": "<", b"MM": ">"}[bytes(view[:2])], bytes(view[2:4])
        self.kind = _Kind(order, big=b"+" in version)
        if start is None:
            (start,) = struct.unpack_from(self.kind.offset, view, 8 if self.kind.big else 4)
        (count,) = struct.unpack_from(self.kind.count, view, start)
        if count > MOST_TAGS:
            raise too_many("TIFF", "tags", MOST_TAGS)
        self.tags: dict[int, _Tag] = {}
        at, size = start + struct.calcsize(self.kind.count), 20 if self.kind.big else 12
        for place in range(at, at + size * count, size):
            self._add(view, place, size)
        self.end = at + size * count
        """Of its directory: where the next one's offset is."""

    def _add(self, view: memoryview, at: int, size: int) -> None:
        number, kind, count = struct.unpack_from(self.kind.entry, view, at)
        if number not in _NEEDED and number not in _ABOUT:
            return
        length, inline = count * _SIZES.get(kind, 1), size - struct.calcsize(self.kind.entry)
        most = _LONGEST if number == _COLOURS else 2 * MOST_PIECES
        if count > most and number in _NEEDED:
            raise too_many("TIFF", "values in a tag", most)
        start = at + size - inline
        if length > inline:
            (start,) = struct.unpack_from(self.kind.offset, view, start)
        if start + length > len(view) or at + size > len(view):
            if number in _ABOUT:
                return
            raise cut_off("TIFF")
        self.tags[number] = _Tag(bytes(view[at : at + size]), kind, count, view[start : start + length])

    def numbers(self, tag: int) -> np.ndarray:
        """The values of a tag; none if it is missing."""
        found = self.tags.get(tag)
        if found is None or (tag in _ABOUT and found.type not in _NUMBERS):
            return np.zeros(0, np.uint64)
        if found.type not in _NUMBERS:
            raise cut_off("TIFF")
        return np.frombuffer(found.values, self.kind.order + _NUMBERS[found.type]).astype(np.uint64)

    def number(self, tag: int, default: int | None = None) -> int:
        values = self.numbers(tag)
        if len(values):
            return int(values[0])
        if default is None:
            raise cut_off("TIFF")
        return default

    @property
    def pixels(self) -> int:
        """0 if it does not give its size."""
        return self.number(_WIDTH, 0) * self.number(_HEIGHT, 0)

    @property
    def orientation(self) -> int:
        stored, packet = self.tags.get(ORIENTATION), self.tags.get(_XMP)
        exif = None if stored is None else stored_orientation(self.kind.order, stored.type, stored.values)
        return first_of(exif, None if packet is None else xmp_orientation(packet.values))

    @property
    def make(self) -> str:
        """Of the camera."""
        tag = self.tags.get(_MAKE)
        return "" if tag is None else bytes(tag.values[:_LONGEST_NAME]).decode("latin-1")

    def parts(self, view: memoryview) -> Iterator["_Image"]:
        """The images that this one names as its own; those that can be read."""
        tag = self.tags.get(_PARTS)
        kind = None if tag is None else _OFFSETS.get(tag.type)
        if tag is not None and kind is not None:
            for start in np.frombuffer(tag.values, self.kind.order + kind)[:_MOST_OTHERS].tolist():
                yield from _read(view, start)

    def following(self, view: memoryview) -> Iterator["_Image"]:
        """The images that come after this one in the file, up to the first that cannot be read."""
        image = self
        for _ in range(_MOST_OTHERS):
            (start,) = struct.unpack_from(self.kind.offset, view, image.end)
            found = list(_read(view, start)) if start else []
            if not found:
                return
            (image,) = found
            yield image

    def file(self, view: memoryview) -> bytes:
        """The file with a directory that has the needed tags only, and no other directory."""
        entries = [tag.raw for number, tag in sorted(self.tags.items()) if number in _NEEDED]
        start = 16 if self.kind.big else 8
        at = len(view) + len(view) % 2
        return b"".join(
            [
                view[: start - struct.calcsize(self.kind.offset)],
                struct.pack(self.kind.offset, at),
                view[start:],
                bytes(len(view) % 2),
                struct.pack(self.kind.count, len(entries)),
                *entries,
                struct.pack(self.kind.offset, 0),
            ]
        )


def read_tiff(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Raises ImageTooLarge, ImageTruncated, ImageFormatUnsupported."""
    limit = most_pixels("TIFF", max_pixels)
    view = memoryview(data)
    try:
        image = _Image(view)
        if image.kind.big and image.kind.order == ">":  # Pillow takes it for a classic TIFF
            raise not_read("TIFF", "offsets of 64 bits in big-endian order")
        _check_first(image, view)
        size = image.number(_WIDTH), image.number(_HEIGHT)
        check_size("TIFF", *size, limit)
        _check(image, view, *size, limit)
    except (IndexError, KeyError, struct.error):
        raise cut_off("TIFF") from None
    return Still("TIFF", size, image.file(view), image.orientation)


def _read(view: memoryview, start: int) -> Iterator[_Image]:
    """The image whose directory is there, if it can be read."""
    with contextlib.suppress(ImageError, LookupError, struct.error):
        image = _Image(view, start)
        image.number(_PHOTOMETRIC, image.pixels)  # can be read, too
        yield image


def _check_first(image: _Image, view: memoryview) -> None:
    """Raise ImageFormatUnsupported if the first image is a small copy of what the file is about."""
    reduced = image.number(_KIND, 0) & _REDUCED
    others = [*image.parts(view), *(image.following(view) if reduced else ())]
    larger = max(others, key=lambda other: other.pixels, default=image)
    raw = raw_format_in_tiff(image.make)
    if _DNG in image.tags:
        raise raw_refused("DNG")
    if any(one.number(_PHOTOMETRIC, 0) in _SENSOR for one in (image, *others)):
        raise raw_refused(raw or "in TIFF")
    if larger.pixels > image.pixels:
        if raw is not None:
            raise raw_refused(raw)
        raise not_read("TIFF", f"a thumbnail of {image.pixels} pixels in front of the image of {larger.pixels}")


def _check(image: _Image, view: memoryview, width: int, height: int, max_pixels: int) -> None:
    compression = image.number(_COMPRESSION, _UNCOMPRESSED)
    if compression not in _COMPRESSIONS:
        raise not_read("TIFF", f"compression {compression}")
    samples = image.number(_SAMPLES, 3 if compression == _JPEG else 1)
    bits = [int(value) for value in image.numbers(_BITS)[:samples]] or [1]
    depth = sum(bits) if len(bits) == samples else bits[0] * samples
    if depth > MOST_BITS:
        raise too_many("TIFF", "bits per pixel", MOST_BITS)
    tiled = _TILES in image.tags
    across = image.number(_TILE_WIDTH) if tiled else width
    down = image.number(_TILE_HEIGHT) if tiled else min(image.number(_STRIP_ROWS, height), height)
    if across <= 0 or down <= 0:
        raise cut_off("TIFF")
    columns, rows = math.ceil(width / across), math.ceil(height / down)
    check_tiles("TIFF", f"{across}x{down} tiles", columns * across * rows * down, (width, height))
    if across * down * depth > 8 * 4 * (max_pixels + SPARE_PIXELS):
        raise too_many("TIFF", "bytes in a strip or tile", 4 * (max_pixels + SPARE_PIXELS))
    planes = samples if image.number(_PLANES, 1) == _SEPARATE else 1
    pieces = columns * rows * planes
    offsets = image.numbers(_TILES if tiled else _STRIPS)
    lengths = image.numbers(_TILE_BYTES if tiled else _STRIP_BYTES)
    if pieces > MOST_PIECES:
        raise too_many("TIFF", "strips or tiles", MOST_PIECES)
    if len(offsets) != pieces:
        raise ImageTruncated(f"the TIFF image is damaged: it has {len(offsets)} strips or tiles for {pieces} places")
    if compression == _UNCOMPRESSED and image.number(_PHOTOMETRIC, 0) != _SUBSAMPLED:
        line = math.ceil(across * (depth if planes == 1 else bits[0]) / 8)
        lines = np.full((planes, rows, columns), down)
        if not tiled:
            lines[:, -1] = height - (rows - 1) * down
        _check_inside(view, offsets, (line * lines).reshape(-1))
        return
    if len(lengths) != len(offsets):
        raise cut_off("TIFF")
    if float(lengths.astype(np.float64).sum()) > 2 * len(view):
        raise ImageTruncated("the TIFF image is damaged: its strips or tiles are longer than the file")
    _check_inside(view, offsets, lengths)
    if compression == _JPEG:
        _check_jpegs(view, offsets, lengths, max_pixels)


def _check_inside(view: memoryview, offsets: np.ndarray, lengths: np.ndarray) -> None:
    """Raise ImageTruncated unless the strips or tiles are in the file: the directory that is put behind the data is no
    part of them."""
    if len(offsets) and (offsets.astype(np.float64) + lengths.astype(np.float64)).max() > len(view):
        raise ImageTruncated("the TIFF image ends before its last pixel; was the upload incomplete?")


def _check_jpegs(view: memoryview, offsets: np.ndarray, lengths: np.ndarray, max_pixels: int) -> None:
    samples = 0
    for start, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        samples += walk(view[start : start + length], max_pixels).samples
        if samples > PASSES * max_pixels:
            raise too_many("TIFF", "samples in its JPEG scans", PASSES * max_pixels)
