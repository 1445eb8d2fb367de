"""GIF: the first frame, without comments and what follows it."""

import struct

from mien.vision.formats.still import Still, check_size, cut_off, joined, most_pixels, too_many

MOST_BLOCKS = 1 << 18
"""Data comes in blocks of up to 255 bytes: full ones would be 64 MB."""
_IMAGE, _EXTENSION, _CONTROL, _TRAILER = 0x2C, 0x21, 0xF9, b";"


def read_gif(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Raises ImageTooLarge, ImageTruncated."""
    limit = most_pixels("GIF", max_pixels)
    view = memoryview(data)
    try:
        return _first_frame(view, limit)
    except (IndexError, struct.error):
        raise cut_off("GIF") from None


def _first_frame(view: memoryview, max_pixels: int) -> Still:
    width, height, flags = struct.unpack_from("<HHB", view, 6)
    at = 13 + _table(flags)
    needed, control, blocks = [(0, at)], (0, 0), 0
    while view[at] not in (_IMAGE, _TRAILER[0]):
        if view[at] != _EXTENSION:  # stray bytes, which decoders pass over
            at, blocks = at + 1, blocks + 1
            if blocks > MOST_BLOCKS:
                raise too_many("GIF", "blocks of data", MOST_BLOCKS)
            continue
        end, used = _skipped(view, at + 2, MOST_BLOCKS - blocks)
        if view[at + 1] == _CONTROL:  # how transparency works; the last one before the frame counts
            control = at, end
        at, blocks = end, blocks + used
    if view[at] != _IMAGE:
        raise cut_off("GIF")
    left, top, across, down, flags = struct.unpack_from("<HHHHB", view, at + 1)
    width, height = max(width, left + across), max(height, top + down)
    check_size("GIF", width, height, max_pixels)
    try:
        end, _ = _skipped(view, at + 11 + _table(flags), MOST_BLOCKS - blocks)
        trailer = _TRAILER
    except IndexError:
        end, trailer = len(view), b""  # the decoder says what is missing
    return Still("GIF", (width, height), joined(view, [*needed, control, (at, end)]) + trailer)


def _table(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skipped(view: memoryview, at: int, most: int) -> tuple[int, int]:
    """Where a chain of data blocks ends, and how many they are."""
    for number in range(most):
        length = view[at]
        at += 1 + length
        if length == 0:
            return at, number + 1
    raise too_many("GIF", "blocks of data", MOST_BLOCKS)
