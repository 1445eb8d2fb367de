"""One still image of a file: its header, and a file for the decoder that has nothing but what the pixels need."""

from collections.abc import Iterable
from dataclasses import dataclass

from mien.errors import ImageFormatUnsupported, ImageTooLarge, ImageTruncated
from mien.vision.formats.orientation import UPRIGHT, turned

SPARE_PIXELS = 1 << 20
"""Tiles may pass the image's edges by so many pixels, or by as many as the image has."""
IN_MEMORY = "pixels in memory"
MOST_PIXELS = {
    IN_MEMORY: 120_000_000,
    "JPEG": 200_000_000,
    "JPEG in several scans": 120_000_000,
    "JPEG in CMYK": 100_000_000,
    "JPEG by Pillow": 92_000_000,
    "PNG": 100_000_000,
    "GIF": 100_000_000,
    "BMP": 100_000_000,
    "TIFF": 100_000_000,
    "WEBP": 100_000_000,
    "HEIF": 85_000_000,
    "AVIF": 66_000_000,
}
"""Unless the operator sets a limit: what can be decoded in 1.2 GB and, if it is not an AVIF, in ten seconds of one
core, by the peaks and worst cases that `benchmarks/images.py` measures."""
Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Still:
    """The first, or only, image of a file."""

    format: str
    """JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIF."""
    size: Size
    """As stored."""
    data: bytes | memoryview
    """A file of the same format without metadata and further frames: what is not there cannot cost the decoder
    anything."""
    orientation: int = UPRIGHT
    """EXIF orientation, to be applied to the decoded pixels."""
    offset: tuple[int, int] = (0, 0)
    """Where the decoded pixels start, from left and top, if they are only a part of the image; the rest is white."""
    cmyk: bool = False
    """The pixels are stored as four inks."""
    shrinks: bool = False
    """Its decoder can leave out detail, by a factor of 2, 4 or 8."""
    height_at: int | None = None
    """Where its height is in `data`, if a smaller one there makes the decoder stop early."""
    ended: bool = True
    """The file has an end; where pixels are missing nevertheless, it has not been cut off but damaged."""

    @property
    def upright_size(self) -> Size:
        """With the orientation applied."""
        return turned(*self.size, self.orientation)


def most_pixels(kind: str, max_pixels: int | None) -> int:
    """The limit that the operator set, or that of a kind of `MOST_PIXELS`."""
    return MOST_PIXELS[kind] if max_pixels is None else max_pixels


def most_pixels_of_any(max_pixels: int | None) -> int:
    """Images of so many pixels are read in every format."""
    return min(most_pixels(kind, max_pixels) for kind in MOST_PIXELS)


def check_size(kind: str, width: int, height: int, max_pixels: int) -> None:
    """Raise ImageTooLarge for more pixels than that, ImageTruncated for none."""
    pixels = width * height
    if width <= 0 or height <= 0:
        raise ImageTruncated(f"the {kind} image's header gives its size as {width}x{height} pixels")
    if pixels > max_pixels:
        raise ImageTooLarge(f"the image is {width}x{height}, {pixels} pixels; this server decodes at most {max_pixels}")


def check_tiles(kind: str, tiles: str, covered: int, size: Size) -> None:
    """Raise ImageTooLarge if the `tiles`, which cover so many pixels, are too large for an image of this size."""
    most = 2 * size[0] * size[1] + SPARE_PIXELS
    if covered > most:
        raise too_many(kind, f"pixels in its {tiles}", most)


def joined(data: bytes | memoryview, parts: Iterable[tuple[int, int]]) -> bytes:
    """The parts of the data, each given as its start and end."""
    view = memoryview(data)
    return b"".join(view[start:end] for start, end in parts)


def too_many(kind: str, what: str, most: int) -> ImageTooLarge:
    """The error for a file that would cost its decoder too much."""
    return ImageTooLarge(f"the {kind} image has too many {what}; this server decodes at most {most}")


def cut_off(kind: str) -> ImageTruncated:
    """The error for a header that ends early or makes no sense."""
    return ImageTruncated(f"the {kind} image's header is damaged or cut off")


def not_read(kind: str, what: str) -> ImageFormatUnsupported:
    """The error for a variant of a format that is left out."""
    return ImageFormatUnsupported(f"this server does not read {kind} images with {what}")
