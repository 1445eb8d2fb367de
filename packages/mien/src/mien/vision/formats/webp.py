"""WebP (RFC 9649): the first frame as a file of its own."""

import struct
from collections.abc import Iterator

from mien.errors import ImageTruncated
from mien.vision.formats.orientation import exif_orientation, first_of, xmp_orientation
from mien.vision.formats.still import Still, check_size, cut_off, most_pixels, too_many

MOST_CHUNKS = 4096
_START, _FRAME = 12, 16
"""Bytes before the first chunk, and of a frame before its first."""
_ALPHA, _LOSSY, _LOSSLESS = b"ALPH", b"VP8 ", b"VP8L"
_PIXELS = frozenset({_ALPHA, _LOSSY, _LOSSLESS, b"ANMF"})
_ALPHA_FLAG = 0x10
_NONE = memoryview(b"")


def read_webp(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Raises ImageTooLarge, ImageTruncated."""
    limit = most_pixels("WEBP", max_pixels)
    try:
        return _read(memoryview(data), limit)
    except (IndexError, struct.error):
        raise cut_off("WebP") from None


def _read(view: memoryview, max_pixels: int) -> Still:
    canvas: tuple[int, int] | None = None
    chunks: dict[bytes, memoryview] = {}
    for kind, content in _chunks(view[_START:]):
        if kind == b"VP8X":
            canvas = _uint24(content, 4) + 1, _uint24(content, 7) + 1
        chunks.setdefault(kind, content)
    offset = 0, 0
    pixels = chunks
    if canvas is not None and b"ANMF" in chunks:
        frame = chunks[b"ANMF"]
        offset = 2 * _uint24(frame, 0), 2 * _uint24(frame, 3)
        pixels = dict(_chunks(frame[_FRAME:]))
    size = _bitstream_size(pixels)
    check_size("WEBP", *(canvas or size), max_pixels)
    if canvas is not None and (offset[0] + size[0] > canvas[0] or offset[1] + size[1] > canvas[1]):
        raise ImageTruncated("the WebP image is damaged: a frame does not fit")
    return Still("WEBP", canvas or size, _file(pixels, size), _orientation(chunks), offset)


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk; the last one may be cut off, unless it has pixels that are needed."""
    at, seen = 0, set[bytes]()
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(view):
            return
        length = int.from_bytes(view[at + 4 : at + 8], "little")
        kind = bytes(view[at : at + 4])
        if kind in _PIXELS - seen and at + 8 + length > len(view):
            raise ImageTruncated("the WebP image ends before its last pixel; was the upload incomplete?")
        yield kind, view[at + 8 : at + 8 + length]
        seen.add(kind)
        at += 8 + length + length % 2
    raise too_many("WEBP", "chunks", MOST_CHUNKS)


def _bitstream_size(chunks: dict[bytes, memoryview]) -> tuple[int, int]:
    """Width and height as the decoder will see them."""
    if _LOSSY in chunks:
        marker, width, height = struct.unpack_from("<3sHH", chunks[_LOSSY], 3)
        if marker != b"\x9d\x01\x2a":
            raise cut_off("WebP")
        return width & 0x3FFF, height & 0x3FFF
    if _LOSSLESS in chunks:
        (bits,) = struct.unpack_from("<I", chunks[_LOSSLESS], 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise cut_off("WebP")


def _file(chunks: dict[bytes, memoryview], size: tuple[int, int]) -> bytes:
    if _LOSSY not in chunks:
        body = _chunk(_LOSSLESS, chunks[_LOSSLESS])
    elif _ALPHA in chunks:
        extended = struct.pack("<I", _ALPHA_FLAG) + b"".join((side - 1).to_bytes(3, "little") for side in size)
        body = b"".join([_chunk(b"VP8X", extended), _chunk(_ALPHA, chunks[_ALPHA]), _chunk(_LOSSY, chunks[_LOSSY])])
    else:
        body = _chunk(_LOSSY, chunks[_LOSSY])
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _chunk(kind: bytes, content: bytes | memoryview) -> bytes:
    return b"".join([kind, struct.pack("<I", len(content)), content, bytes(len(content) % 2)])


def _orientation(chunks: dict[bytes, memoryview]) -> int:
    return first_of(exif_orientation(chunks.get(b"EXIF", _NONE)), xmp_orientation(chunks.get(b"XMP ", _NONE)))


def _uint24(content: memoryview, at: int) -> int:
    if at + 3 > len(content):
        raise IndexError("a chunk is too short")
    return int.from_bytes(content[at : at + 3], "little")
