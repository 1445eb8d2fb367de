"""Decodes images of untrusted origin to arrays."""

import re
import struct
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import AvifImagePlugin, ImageFile
from PIL import Image as PilImage

from mien.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageTruncated
from mien.vision.formats.avif import read_avif
from mien.vision.formats.bmp import read_bmp
from mien.vision.formats.gif import read_gif
from mien.vision.formats.jpeg import read_jpeg
from mien.vision.formats.orientation import ORIENTATION, UPRIGHT, known
from mien.vision.formats.png import read_png
from mien.vision.formats.still import IN_MEMORY, Still, check_size, most_pixels
from mien.vision.formats.tiff import read_tiff
from mien.vision.formats.webp import read_webp
from mien.vision.image_format import sniff
from mien.vision.types import Image

# The pixel limit is a parameter, checked against the header; Pillow's own would warn or raise at other sizes.
PilImage.MAX_IMAGE_PIXELS = None
# An image is one thread's work; the server decides how many of those there are.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Pillow and its plugins have been observed to raise for damaged files; the documentation names only OSError."""

_JPEG_END = "before marker 0xd9"
"""In the strict decoder's complaint about stray bytes after the last pixel: it had nothing to complain of before."""
_HARMLESS_JPEG = ("extraneous bytes", "Inconsistent progression")
"""In complaints that say nothing of missing pixels."""
_SUBSAMPLING = "subsampling"
"""In what it says of colours that are subsampled in an unusual way. Pillow decodes them, but does not notice damage."""
_RESTART = re.compile("before marker 0xd[0-7]")
"""Stray bytes there are what is left of data that does not make sense."""
_PILLOW_NOISE: tuple[Any, ...] = ("ignore", r"PIL\.")
_STRIP_PIXELS = 1 << 18
"""Pixels that are converted at a time: copies of a whole image would cost several times its size."""


def read_still(data: bytes | memoryview, *, max_pixels: int | None) -> Still:
    """The image's size, orientation and what a decoder needs of it; no pixels are decoded.

    `max_pixels`: None for a limit by format, from the memory that decoding takes.

    Takes milliseconds. Raises ImageFormatUnsupported if it is not an image or of a kind that is not read, ImageTooLarge
    if decoding it would cost too much, ImageTruncated if the header is damaged or incomplete.
    """
    kind = sniff(data)
    reader = _READERS.get(kind)
    return _read_by_pillow(kind, data, max_pixels) if reader is None else reader(data, max_pixels)


def decode(data: bytes | memoryview, *, max_pixels: int | None, max_bytes: int) -> Image:
    """Decode to BGR: upright, transparency composited on white, only the first frame of an animation.

    `max_pixels`: None for a limit by format, from the memory that decoding takes.

    Raises ImageTooLarge if it exceeds `max_bytes` encoded bytes or `max_pixels`, or would cost more to decode than an
    image of that size should (all checked before pixels are allocated), ImageFormatUnsupported if it is not an image,
    ImageTruncated if it is incomplete or damaged.
    """
    return decode_still(open_still(data, max_pixels=max_pixels, max_bytes=max_bytes))


def open_still(data: bytes | memoryview, *, max_pixels: int | None, max_bytes: int) -> Still:
    """As `read_still`, and ImageTooLarge for more than `max_bytes` encoded bytes."""
    if len(data) > max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes; this server reads at most {max_bytes}")
    return read_still(data, max_pixels=max_pixels)


def decode_still(still: Still, factor: int = 1) -> Image:
    """Its pixels, as from `decode`; for an image that `shrinks` one per square of `factor` (1, 2, 4, 8) pixels.

    Squares may pass the right and the bottom edge of the image as it is stored. Raises ImageTruncated.
    """
    if factor > 1:
        return upright(_jpeg_pixels(still, factor), still.orientation)
    return upright(_on_canvas(_pixels(still), still), still.orientation)


_READERS: dict[str, Callable[[bytes | memoryview, int | None], Still]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "BMP": read_bmp,
    "TIFF": read_tiff,
    "WEBP": read_webp,
    "AVIF": read_avif,
}


def _pixels(still: Still) -> Image:
    if still.format == "JPEG":
        return _jpeg_pixels(still)
    if still.format == "WEBP":
        return _webp_pixels(still)
    return _pillow_pixels(still)


def _on_canvas(pixels: Image, still: Still) -> Image:
    """The decoded part in its place on the image, if it is only a part."""
    width, height = still.size
    if pixels.shape[:2] == (height, width):
        return pixels
    (left, top), (down, across) = still.offset, pixels.shape[:2]
    if left + across > width or top + down > height:
        raise ImageTruncated(f"the {still.format} image is damaged: it gives its size twice")
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[top : top + down, left : left + across] = pixels
    return canvas


def upright(image: Image, orientation: int) -> Image:
    """The image with its EXIF orientation (1..8) applied."""
    match orientation:
        case 2:
            turned = cv2.flip(image, 1)
        case 3:
            turned = cv2.rotate(image, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(image, 0)
        case 5:
            turned = cv2.transpose(image)
        case 6:
            turned = cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.rotate(cv2.transpose(image), cv2.ROTATE_180)
        case 8:
            turned = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return image
    return turned.astype(np.uint8, copy=False)


# --- JPEG


def _jpeg_pixels(still: Still, factor: int = 1) -> Image:
    width, height = (-(-side // factor) for side in still.size)
    space = "CMYK" if still.cmyk else "BGR"
    pixels = np.empty((height, width, len(space)), np.uint8)
    least = {} if factor == 1 else {"min_height": height, "min_width": width}
    try:
        simplejpeg.decode_jpeg(still.data, space, buffer=pixels, **least)
    except (ValueError, OverflowError) as error:
        if _SUBSAMPLING in str(error) and still.ended:
            return _pillow_pixels(still)
        _check_complaint(still, str(error))
    return _colours(pixels) if still.cmyk else pixels


def _check_complaint(still: Still, complaint: str) -> None:
    """Raise ImageTruncated unless every pixel has been decoded although the strict decoder complains.

    It decodes on, but tells its first complaint only: another one may hide that the data has been cut off.
    """
    if _JPEG_END in complaint:
        return
    if not still.ended:
        raise ImageTruncated("the JPEG ends before its last pixel; was the upload incomplete?")
    if _RESTART.search(complaint) or not any(words in complaint for words in _HARMLESS_JPEG):
        raise ImageTruncated(f"the JPEG is damaged: {complaint[:100]}")


def _colours(inks: Image) -> Image:
    """CMYK as everybody stores it, inverted, as BGR."""
    height, width = inks.shape[:2]
    bgr = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for start in range(0, height, rows):
        strip = PilImage.fromarray(~inks[start : start + rows], "CMYK").convert("RGB")
        bgr[start : start + rows] = cv2.cvtColor(np.asarray(strip), cv2.COLOR_RGB2BGR)
    return bgr


# --- WebP: by OpenCV, since Pillow's decoder for animations needs four times the memory


def _webp_pixels(still: Still) -> Image:
    try:
        pixels: Image | None = cv2.imdecode(np.frombuffer(still.data, np.uint8), cv2.IMREAD_UNCHANGED)  # type: ignore[assignment]
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageTruncated("the WEBP image is damaged or ends early")
    return _over_white(pixels) if pixels.shape[2] == 4 else pixels


# --- everything else, by Pillow


def _read_by_pillow(kind: str, data: bytes | memoryview, max_pixels: int | None) -> Still:
    image = _opened(kind, data)
    check_size(kind, *image.size, most_pixels(kind, max_pixels))
    return Still(kind, image.size, data, _orientation(image))


def _opened(kind: str, data: bytes | memoryview) -> ImageFile.ImageFile:
    """Pillow's lazily loaded image, opened by the one plugin for the sniffed format."""
    _quieten_pillow()
    factory = _heif_factory() if kind == "HEIF" else _factory(kind)
    try:
        image: ImageFile.ImageFile = factory(BytesIO(data), "")
    except DAMAGE as error:
        raise ImageTruncated(f"the {kind} image's header is damaged or cut off") from error
    return image


def _factory(kind: str) -> Any:
    if kind not in PilImage.OPEN:
        PilImage.init()
    if kind not in PilImage.OPEN:
        raise ImageFormatUnsupported(f"this server's Pillow was built without {kind}")
    return PilImage.OPEN[kind][0]


def _heif_factory() -> Any:
    try:
        import pillow_heif  # here: an optional extra, and slow to import
    except ImportError:
        raise ImageFormatUnsupported("this server cannot read HEIF images: it needs the extra mien[heif]") from None
    return pillow_heif.HeifImageFile


def _quieten_pillow() -> None:
    """Silence Pillow's warnings about metadata of images that it decodes fine. Installs a permanent filter, since
    catch_warnings is not thread-safe."""
    action, module = _PILLOW_NOISE
    if not any(f[0] == action and getattr(f[3], "pattern", None) == module for f in warnings.filters):
        warnings.filterwarnings(action, module=module)


def _orientation(image: PilImage.Image) -> int:
    try:
        return known(image.getexif().get(ORIENTATION, UPRIGHT))
    except DAMAGE:
        return UPRIGHT


def _pillow_pixels(still: Still) -> Image:
    image = _opened(still.format, still.data)
    if image.size != still.size:
        # What was checked is not what the decoder sees.
        raise ImageTruncated(f"the {still.format} image is damaged: it gives its size twice")
    try:
        image.load()
        return _bgr(image)
    except DAMAGE as error:
        raise ImageTruncated(f"the {still.format} image is damaged or ends early") from error


def _bgr(image: PilImage.Image) -> Image:
    """The loaded image's pixels, converted strip by strip."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    convert = _converter(image)
    for start, strip in _strips(image):
        pixels[start : start + strip.height] = convert(strip)
    return pixels


def _strips(image: PilImage.Image) -> Iterator[tuple[int, PilImage.Image]]:
    """The image in horizontal strips, each with its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for start in range(0, image.height, rows):
        yield start, image.crop((0, start, image.width, min(start + rows, image.height)))


def _converter(image: PilImage.Image) -> Callable[[PilImage.Image], Image]:
    """How strips of this image become BGR."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return lambda strip: _over_white(_cv(cv2.cvtColor(np.asarray(strip.convert("RGBA")), cv2.COLOR_RGBA2BGRA)))
    if image.mode.startswith(("I", "F")):
        full = _full_scale(image)
        return lambda strip: _gray(_eight_bits(np.asarray(strip), full))
    if image.mode in ("L", "1"):
        return lambda strip: _gray(np.asarray(strip.convert("L")))
    return lambda strip: _cv(cv2.cvtColor(np.asarray(strip.convert("RGB")), cv2.COLOR_RGB2BGR))


def _gray(pixels: np.ndarray) -> Image:
    return _cv(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))


def _over_white(bgra: np.ndarray) -> Image:
    """Composited on white, some rows at a time."""
    bgr = np.empty((*bgra.shape[:2], 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // bgra.shape[1])
    for start in range(0, len(bgra), rows):
        part = bgra[start : start + rows]
        alpha = part[..., 3:].astype(np.uint16)
        weighted = part[..., :3] * alpha + np.uint16(255) * (255 - alpha)
        bgr[start : start + rows] = (weighted + 127) // 255
    return _cv(bgr)


def _full_scale(image: PilImage.Image) -> float:
    """The value that stands for white in gray values of more than 8 bits: the end of their apparent range."""
    if image.mode.startswith("I;16"):
        return 65535.0
    highest = max(float(_finite(np.asarray(strip)).max(initial=0.0)) for _, strip in _strips(image))
    floating = image.mode == "F"
    return next((limit for limit in (1.0, 255.0, 65535.0) if highest <= limit and (floating or limit > 1)), highest)


def _eight_bits(pixels: np.ndarray, full: float) -> np.ndarray:
    """Integer or floating-point gray values, scaled to 0..255."""
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return (pixels >> 8).astype(np.uint8)
    return _cv(np.clip(_finite(pixels) * (255.0 / full) + 0.5, 0, 255).astype(np.uint8))


def _finite(pixels: np.ndarray) -> np.ndarray:
    return np.nan_to_num(pixels.astype(np.float32), posinf=0.0, neginf=0.0)


def _cv(pixels: Any) -> Image:
    image: Image = pixels
    return image


# --- pixels that are decoded already


def from_array(pixels: np.ndarray, *, rgb: bool, max_pixels: int | None) -> Image:
    """Pixels that a program has in memory as BGR; copied only where they have to change.

    `pixels`: uint8 of [height, width], [height, width, 1], [height, width, 3] (BGR, or RGB if `rgb`) or
    [height, width, 4] (with alpha, which is composited on white). Raises ImageError for anything else, ImageTooLarge.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or not pixels.size:
        raise ImageError(
            "an array of pixels is uint8, from 0 to 255, and of the shape (height, width), (height, width, 3) or "
            f"(height, width, 4); this one is {pixels.dtype} of the shape {pixels.shape}"
        )
    height, width = pixels.shape[:2]
    check_size("numpy", width, height, most_pixels(IN_MEMORY, max_pixels))
    if channels == 1:
        return _gray(pixels)
    swap = {(3, True): cv2.COLOR_RGB2BGR, (4, True): cv2.COLOR_RGBA2BGRA}.get((channels, rgb))
    ordered = np.ascontiguousarray(pixels) if swap is None else _cv(cv2.cvtColor(pixels, swap))
    return _over_white(ordered) if channels == 4 else ordered


def from_pillow(image: PilImage.Image, *, max_pixels: int | None) -> Image:
    """A PIL image as `decode` would have it: upright, on white, BGR. Loads its pixels if it has not.

    Raises ImageTooLarge, and ImageTruncated if its file is damaged.
    """
    check_size(image.format or "PIL", *image.size, most_pixels(IN_MEMORY, max_pixels))
    try:
        image.load()
        return upright(_bgr(image), _orientation(image))
    except DAMAGE as error:
        raise ImageTruncated(f"the {image.format or 'PIL'} image is damaged or ends early") from error
