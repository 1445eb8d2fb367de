"""The one EXIF tag that matters here, read without trusting the file: which way is up."""

import struct

import cv2
import numpy as np

from mien.vision.types import Image

ORIENTATION = 0x0112
UPRIGHT = 1
_SHORT = 3
_MOST_ENTRIES = 512
_ROTATED = {5, 6, 7, 8}


def tiff_orientation(tiff: bytes | memoryview) -> int:
    """The orientation (1..8, TIFF 6.0 section "Orientation") in an EXIF block that starts with its TIFF
    header.

    1 for a block that does not have it or is damaged.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(min(count, _MOST_ENTRIES)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
            if tag == ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT
    return UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether turning the image upright exchanges its width and height."""
    return orientation in _ROTATED


def upright(image: Image, orientation: int) -> Image:
    """The image turned and mirrored so that it is seen as meant."""
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
