"""The Range header (RFC 9110, 14): one range of bytes."""

import re

from mien.errors import RangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop (exclusive) of the requested bytes; None: send everything, as for anything but one byte range.

    Raises RangeNotSatisfiable for a range that starts after the end.
    """
    match = _ONE_RANGE.fullmatch((header or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(f"the file has {size} bytes; the range starts after its end")
    return start, stop
