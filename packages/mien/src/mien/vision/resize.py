"""Images made smaller, and padded: what stands between an image and a detector's input."""

import cv2
import numpy as np

from mien.vision.types import Image


def fit(image: Image, longest_side: int) -> tuple[Image, float]:
    """The image with its longest side at most `longest_side` pixels, and the factor (≤ 1) that did it.

    Never enlarges: an image that fits is returned as it is, not copied. A side that would round to 0 becomes
    1.
    """
    rows, columns = image.shape[:2]
    scale = longest_side / max(rows, columns)
    if scale >= 1:
        return image, 1.0
    return shrink(image, max(1, round(rows * scale)), max(1, round(columns * scale))), scale


def shrink(image: Image, height: int, width: int) -> Image:
    """The image at a smaller size, without aliasing.

    Area interpolation by an arbitrary factor costs more than a detector's run (36 ms for 12 megapixels).
    Halving has a fast path in OpenCV: so halve while that is not too small, then interpolate linearly by what
    is left, at most 2.
    """
    steps = halvings(image.shape[0], image.shape[1], height, width)
    if not steps and max(image.shape[0] / height, image.shape[1] / width) > 2:
        return _resized(image, height, width, cv2.INTER_AREA)
    for _ in range(steps):
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = _resized(image[: rows * 2, : columns * 2], rows, columns, cv2.INTER_AREA)
    return _resized(image, height, width, cv2.INTER_LINEAR)


def halvings(rows: int, columns: int, height: int, width: int) -> int:
    """How often `shrink` halves. Odd rows and columns are lost: it shows `rows >> n << n` of the image's
    rows.
    """
    steps = 0
    while rows >> (steps + 1) >= height and columns >> (steps + 1) >= width:
        steps += 1
    return steps


def pad_to_multiple(image: Image, multiple: int) -> Image:
    """The image with black added on the right and at the bottom until both sides are multiples of
    `multiple`.
    """
    rows, columns = image.shape[:2]
    bottom, right = -rows % multiple, -columns % multiple
    if not bottom and not right:
        return image
    padded = np.zeros((rows + bottom, columns + right, 3), np.uint8)
    padded[:rows, :columns] = image
    return padded


def _resized(image: Image, height: int, width: int, interpolation: int) -> Image:
    result: Image = cv2.resize(image, (width, height), interpolation=interpolation)  # type: ignore[assignment]
    return result
