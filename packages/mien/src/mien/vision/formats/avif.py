"""AVIF: the primary image with its tiles and its transparency, as a file of its own.

A file can name an image of 64 × 64 pixels whose stream has 16,384 × 16,384, or consist of thousands of tiles. So the
sizes that count are those in the headers of the streams. Thumbnails, gain maps, animations and metadata do not reach
the decoder.
"""

import math
from dataclasses import replace

from mien.errors import ImageTruncated
from mien.vision.formats.av1 import frame_sizes
from mien.vision.formats.boxes import Cursor
from mien.vision.formats.items import Item, Items, file_of, read_items
from mien.vision.formats.orientation import UPRIGHT
from mien.vision.formats.still import Size, Still, check_size, check_tiles, cut_off, most_pixels, not_read, too_many

FRAME_PIXELS = 2.25
"""Pixels in all frames, per pixel of the largest image: colours and transparency are two, and tiles may pass the edges.
Smaller images may have layers."""
SHARED_BYTES = 4 << 20
"""Tiles that look alike may share their data: decoders read so many bytes more than the file has."""
_STREAM, _GRID = b"av01", b"grid"
_MADE_OF, _BELONGS_TO, _PREMULTIPLIED = b"dimg", b"auxl", b"prem"
_ALPHA = {b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"}
_NEEDED = frozenset({b"ispe", b"pixi", b"av1C", b"colr", b"auxC", b"irot", b"imir", b"clap", b"a1op", b"lsel", b"a1lx"})
_CONFIGURATION = 4
"""Bytes of `av1C` before the copy of the stream's headers, which no decoder needs."""
_PADDED_TO = 64
"""Encoders may code whole superblocks."""
_ROTATED = {0: (UPRIGHT, 4, 2), 1: (8, 5, 7), 2: (3, 2, 4), 3: (6, 7, 5)}
"""EXIF orientation by quarter turns (anticlockwise): not mirrored, top to bottom, left to right."""


def read_avif(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Raises ImageTooLarge, ImageTruncated, ImageFormatUnsupported."""
    limit = most_pixels("AVIF", max_pixels)
    try:
        kept = _kept(read_items(memoryview(data), "AVIF"))
        size = _check(kept, len(data), limit)
    except IndexError:
        raise cut_off("AVIF") from None
    return Still("AVIF", size, file_of(kept, b"avif"), _orientation(kept.items[kept.primary]))


# --- what the decoder needs


def _kept(found: Items) -> Items:
    """The primary image, its transparency, and the tiles of both."""
    images = _with_tiles(found, found.primary)
    for number in list(images):
        alpha = _alpha(found, number)
        if alpha is not None:
            images |= _with_tiles(found, alpha)
    references = [
        (kind, source, targets)
        for kind, source, targets in found.references
        if source in images and kind in (_MADE_OF, _BELONGS_TO, _PREMULTIPLIED)
    ]
    ordered = {number: _stripped(item) for number, item in found.items.items() if number in images}
    return Items(found.primary, ordered, references)


def _with_tiles(found: Items, number: int) -> dict[int, None]:
    """An image and what it is made of, in order."""
    kind = _item(found, number).kind
    if kind == _STREAM:
        return {number: None}
    if kind != _GRID:
        raise not_read("AVIF", f"items of type {_shown(kind)}")
    tiles = found.referred(_MADE_OF, number)
    if any(_item(found, tile).kind != _STREAM for tile in tiles) or len(set(tiles)) != len(tiles):
        raise ImageTruncated("the AVIF image is damaged: a grid is made of tiles, each of them once")
    return dict.fromkeys((number, *tiles))


def _alpha(found: Items, number: int) -> int | None:
    for kind, source, targets in found.references:
        if kind == _BELONGS_TO and number in targets and source in found.items:
            content = found.items[source].property(b"auxC")
            if content is not None and bytes(content[4:]).split(b"\0")[0] in _ALPHA:
                return source
    return None


def _item(found: Items, number: int) -> Item:
    if number not in found.items:
        raise IndexError("an item is missing")
    return found.items[number]


def _stripped(item: Item) -> Item:
    """The item with what its pixels need."""
    kept = []
    for given in item.properties:
        if given.kind not in _NEEDED:
            if given.essential:
                raise not_read("AVIF", f"the property {_shown(given.kind)}")
        elif given.kind == b"av1C":
            kept.append(replace(given, content=given.content[:_CONFIGURATION]))
        elif given.kind != b"colr" or bytes(given.content[:4]) == b"nclx":
            kept.append(given)
    return Item(item.kind, kept, item.parts)


def _shown(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))


# --- what it costs


def _check(kept: Items, length: int, max_pixels: int) -> Size:
    """The image's size. Raises if decoding it would cost too much."""
    size = _size(kept.items[kept.primary])
    check_size("AVIF", *size, max_pixels)
    if sum(item.length() for item in kept.items.values()) > length + SHARED_BYTES:
        raise ImageTruncated("the AVIF image is damaged: its items are longer than the file")
    pixels = 0
    for number, item in kept.items.items():
        if item.kind == _GRID:
            _check_grid(kept, number, item, max_pixels)
            continue
        for width, height in _frames(item, max_pixels):
            pixels += width * height
    if pixels > FRAME_PIXELS * max_pixels:
        raise too_many("AVIF", "pixels in its frames", int(FRAME_PIXELS * max_pixels))
    return size


def _size(item: Item) -> Size:
    content = item.property(b"ispe")
    if content is None:
        raise IndexError("an image has no size")
    cursor = Cursor(content[4:])
    return cursor.uint(4), cursor.uint(4)


def _frames(item: Item, max_pixels: int) -> list[Size]:
    given, frames = _size(item), frame_sizes(item.data())
    if not frames:
        raise IndexError("an image has no frame")
    for frame in frames:
        check_size("AVIF", *frame, max_pixels)
    largest = max(width for width, _ in frames), max(height for _, height in frames)
    if any(_padded(a) != _padded(b) for a, b in zip(given, largest, strict=True)):
        raise ImageTruncated(
            f"the AVIF image is damaged: it gives its size twice, as {given[0]}x{given[1]} and as "
            f"{largest[0]}x{largest[1]} pixels"
        )
    return frames


def _padded(side: int) -> int:
    return math.ceil(side / _PADDED_TO)


def _check_grid(kept: Items, number: int, item: Item, max_pixels: int) -> None:
    cursor = Cursor(item.data())
    _, flags, rows, columns = cursor.uint(1), cursor.uint(1), cursor.uint(1) + 1, cursor.uint(1) + 1
    wide = 4 if flags & 1 else 2
    size = cursor.uint(wide), cursor.uint(wide)
    check_size("AVIF", *size, max_pixels)
    if size != _size(item):
        raise ImageTruncated("the AVIF image is damaged: a grid gives its size twice")
    tiles = kept.referred(_MADE_OF, number)
    if len(tiles) != rows * columns:
        raise ImageTruncated(f"the AVIF image is damaged: it has {len(tiles)} tiles for {rows * columns} places")
    check_tiles("AVIF", "tiles", sum(math.prod(_size(kept.items[tile])) for tile in tiles), size)


def _orientation(item: Item) -> int:
    """As Pillow does: EXIF has no say, since the properties are what a reader has to obey."""
    turns, axis = item.property(b"irot"), item.property(b"imir")
    mirrored = 0 if axis is None else 1 + (axis[0] & 1)
    return _ROTATED[0 if turns is None else turns[0] & 3][mirrored]
