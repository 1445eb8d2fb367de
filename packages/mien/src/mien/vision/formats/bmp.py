"""BMP: only what is stored pixel by pixel."""

import struct

from mien.vision.formats.still import Still, check_size, cut_off, most_pixels, not_read

_PLAIN = {0, 3, 6}
"""BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS."""
_OLD = 12
"""Bytes of the header of OS/2, which knows no compression."""


def read_bmp(data: bytes | memoryview, max_pixels: int | None) -> Still:
    """Run-length encoding is not read: Pillow decodes it in Python, run by run, and a run may be 255 rows long.

    Raises ImageTooLarge, ImageTruncated, ImageFormatUnsupported.
    """
    limit = most_pixels("BMP", max_pixels)
    try:
        (header,) = struct.unpack_from("<I", data, 14)
        width, height = struct.unpack_from("<HH" if header == _OLD else "<ii", data, 18)
        compression = 0 if header == _OLD else struct.unpack_from("<I", data, 30)[0]
    except struct.error:
        raise cut_off("BMP") from None
    check_size("BMP", width, abs(height), limit)
    if compression not in _PLAIN:
        raise not_read("BMP", "compression")
    return Still("BMP", (width, abs(height)), data)
