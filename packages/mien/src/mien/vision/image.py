"""Decodes images of untrusted origin to arrays."""

import struct
import warnings
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image as PilImage
from PIL import ImageFile

from mien.errors import ImageFormatUnsupported, ImageTooLarge, ImageTruncated
from mien.vision.image_header import ORIENTATION, UPRIGHT, Header, jpeg_header, sniff, swaps_sides
from mien.vision.types import Image

# The pixel limit is a parameter, checked against the header; Pillow's own would warn or raise at other sizes.
PilImage.MAX_IMAGE_PIXELS = None

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

_HARMLESS_JPEG = (
    "extraneous bytes",
    "Inconsistent progression",
    "Unknown Adobe",
    "unknown JFIF",
    "Unsupported",
    "subsampling",
)
"""Errors of the strict decoder for files that may be complete: Pillow gets to decide."""
_PILLOW_NOISE: tuple[Any, ...] = ("ignore", r"PIL\.")


def probe(data: bytes | memoryview) -> Header:
    """The image's header; no pixels are decoded.

    Raises ImageFormatUnsupported if it is not an image, ImageTruncated if the header is damaged or incomplete.
    """
    kind = sniff(data)
    return jpeg_header(data) if kind == "JPEG" else _pillow_header(_opened(kind, data), kind)


def decode(data: bytes | memoryview, *, max_pixels: int, max_bytes: int) -> Image:
    """Decode to BGR: upright, transparency composited on white, only the first frame of an animation.

    Raises ImageTooLarge if it exceeds `max_bytes` encoded bytes or `max_pixels` (both checked before pixels are
    allocated), ImageFormatUnsupported if it is not an image, ImageTruncated if it is incomplete or damaged.
    """
    if len(data) > max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes; this server reads at most {max_bytes}")
    kind = sniff(data)
    if kind == "JPEG":
        header = jpeg_header(data)
        _check_size(header, max_pixels)
        return upright(_jpeg_pixels(data), header.orientation)
    image = _opened(kind, data)
    _check_size(_pillow_header(image, kind), max_pixels)
    return _pillow_pixels(image, kind)


def _check_size(header: Header, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise ImageTooLarge(
            f"the image is {header.width}x{header.height}, {pixels} pixels; this server decodes at most {max_pixels}"
        )
    if pixels <= 0:
        raise ImageTruncated(f"the image's header gives its size as {header.width}x{header.height} pixels")


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


def _jpeg_pixels(data: bytes | memoryview) -> Image:
    try:
        pixels: Image = simplejpeg.decode_jpeg(data, "BGR")
    except (ValueError, OverflowError) as error:
        return _odd_jpeg_pixels(data, str(error))
    return pixels


def _odd_jpeg_pixels(data: bytes | memoryview, complaint: str) -> Image:
    """A JPEG that the strict decoder rejects: files that are unusual but complete are decoded nevertheless."""
    if "Premature end" in complaint:
        raise ImageTruncated("the JPEG ends before its last pixel; was the upload incomplete?")
    if any(words in complaint for words in _HARMLESS_JPEG):
        return _pillow_pixels(_opened("JPEG", data), "JPEG", UPRIGHT)
    raise ImageTruncated(f"the JPEG is damaged: {complaint[:100]}")


# --- everything else, by Pillow


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


def _pillow_header(image: ImageFile.ImageFile, kind: str) -> Header:
    width, height = image.size
    orientation = UPRIGHT if kind == "TIFF" else _orientation(image)  # Pillow applies the orientation of TIFF itself
    if swaps_sides(orientation):
        width, height = height, width
    return Header(kind, width, height, orientation)


def _orientation(image: PilImage.Image) -> int:
    try:
        # The base class's method: the PNG plugin's own decodes all pixels to look for EXIF data after them.
        value = PilImage.Image.getexif(image).get(ORIENTATION, UPRIGHT)
    except DAMAGE:
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def _pillow_pixels(image: ImageFile.ImageFile, kind: str, orientation: int | None = None) -> Image:
    try:
        image.load()
        pixels = _bgr(image)
    except DAMAGE as error:
        raise ImageTruncated(f"the {kind} image is damaged or ends early") from error
    # After `load`: PNG may store EXIF data after the pixels, and Pillow has reset the orientation of TIFF.
    return upright(pixels, _orientation(image) if orientation is None else orientation)


def _bgr(image: PilImage.Image) -> Image:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(np.asarray(image.convert("RGBA")))
    if image.mode == "RGB":
        return _cv(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
    if image.mode.startswith(("I", "F")):
        return _gray(_eight_bits(np.asarray(image)))
    if image.mode in ("L", "1"):
        return _gray(np.asarray(image.convert("L")))
    return _cv(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR))


def _gray(pixels: np.ndarray) -> Image:
    return _cv(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))


def _on_white(rgba: np.ndarray) -> Image:
    bgr = _cv(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR))
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return bgr
    weighted = bgr.astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha.astype(np.uint16))
    return _cv(((weighted + 127) // 255).astype(np.uint8))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Integer or floating-point gray values of more than 8 bits, scaled to 0..255 by their apparent range."""
    if pixels.dtype == np.uint16 or pixels.dtype == np.dtype(">u2"):
        return (pixels >> 8).astype(np.uint8)
    values = np.nan_to_num(pixels.astype(np.float32), posinf=0.0, neginf=0.0)
    highest = float(values.max(initial=0.0))
    floating = pixels.dtype.kind == "f"
    full = next((limit for limit in (1.0, 255.0, 65535.0) if highest <= limit and (floating or limit > 1)), highest)
    return _cv(np.clip(values * (255.0 / full) + 0.5, 0, 255).astype(np.uint8))


def _cv(pixels: Any) -> Image:
    image: Image = pixels
    return image
