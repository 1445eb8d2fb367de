"""ISO base media files (ISO/IEC 14496-12): boxes and the numbers in them."""

from collections.abc import Iterator

MOST_BOXES = 4096
"""In one box, or at the top of a file: an AVIF has some twenty, with a property or two per tile."""


class Cursor:
    """Big-endian numbers, one after the other."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def uint(self, size: int) -> int:
        """An unsigned number of `size` bytes. Raises IndexError at the end of the data."""
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> memoryview:
        """The next bytes. Raises IndexError at the end of the data."""
        start, self._at = self._at, self._at + size
        if self._at > len(self._view):
            raise IndexError("a box ends early")
        return self._view[start : self._at]

    def rest(self) -> memoryview:
        return self._view[self._at :]

    def version(self) -> tuple[int, int]:
        """Version and flags, with which many boxes begin."""
        return self.uint(1), self.uint(3)


def boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box; the last one may be cut off.

    Raises IndexError if a box is shorter than its header or there are more than MOST_BOXES.
    """
    at = 0
    for _ in range(MOST_BOXES):
        if at + 8 > len(view):
            return
        cursor = Cursor(view[at:])
        size, kind, header = cursor.uint(4), bytes(cursor.take(4)), 8
        if size == 1:
            size, header = cursor.uint(8), 16
        elif size == 0:
            size = len(view) - at
        if size < header:
            raise IndexError("a box is shorter than its header")
        yield kind, view[at + header : at + size]
        at += size
    raise IndexError("too many boxes")


def box(kind: bytes, *content: bytes | memoryview) -> bytes:
    """A box."""
    body = b"".join(content)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def full_box(kind: bytes, version: int, flags: int, *content: bytes | memoryview) -> bytes:
    """A box that begins with a version and flags."""
    return box(kind, bytes([version]), flags.to_bytes(3, "big"), *content)
