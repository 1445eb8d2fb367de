"""What a program may call an image: a path, bytes, a file object, a numpy array, a PIL image."""

import os
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from mien.engine.sources import Item
from mien.errors import ImageError, ImageTooLarge
from mien.inference.images import ImageLimits
from mien.net.paths import read_anywhere
from mien.vision.image import from_array, from_pillow
from mien.vision.types import Image


@runtime_checkable
class BinaryFile(Protocol):
    """An open binary file, or what reads like one."""

    def read(self, size: int, /) -> bytes: ...


Channels: TypeAlias = Literal["bgr", "rgb"]
"""Order of the colours in numpy arrays. OpenCV has BGR, Pillow, imageio and scikit-image have RGB."""

AnyImage: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | NDArray[np.uint8] | PilImage.Image
)
"""An encoded image: its path, its bytes or an open binary file. Or its pixels: a numpy array or a PIL image."""


def read_given(image: AnyImage, channels: Channels, limits: ImageLimits) -> Item | Image:
    """The encoded image, or its pixels where those are given. Raises subclasses of ImageError."""
    if isinstance(image, PilImage.Image):
        return from_pillow(image, max_pixels=limits.max_pixels)
    if isinstance(image, np.ndarray):
        if channels not in ("bgr", "rgb"):
            raise ImageError(f"channels: expected 'bgr' or 'rgb', got {channels!r}")
        return from_array(image, rgb=channels == "rgb", max_pixels=limits.max_pixels)
    if isinstance(image, str | os.PathLike):
        return Item(read_anywhere(Path(image), limits.max_bytes))
    if isinstance(image, bytes | bytearray | memoryview):
        return Item(bytes(image))
    if isinstance(image, BinaryFile):
        return Item(_read(image, limits.max_bytes))
    raise ImageError(f"expected a path, bytes, a binary file, a numpy array or a PIL image; got {_named(image)}")


def _read(file: BinaryFile, most: int) -> bytes:
    data = file.read(most + 1)
    if not isinstance(data, bytes):
        raise ImageError(f"the file gives {_named(data)}, not bytes; was it opened as text?")
    if len(data) > most:
        raise ImageTooLarge(f"the file has more than {most} bytes, the most that are read (MIEN_MAX_IMAGE_BYTES)")
    return data


def _named(value: object) -> str:
    return type(value).__name__
