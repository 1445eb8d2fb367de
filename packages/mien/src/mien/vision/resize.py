"""Pictures made smaller, and padded: what stands between a picture and a detector's input."""

import cv2
import numpy as np

from mien.vision.types import Picture


def fit(picture: Picture, longest_side: int) -> tuple[Picture, float]:
    """The picture with its longest side at most `longest_side` pixels, and the factor (≤ 1) that did it.

    Never enlarges: a picture that fits is returned as it is, not copied. A side that would round to 0 becomes
    1.
    """
    rows, columns = picture.shape[:2]
    scale = longest_side / max(rows, columns)
    if scale >= 1:
        return picture, 1.0
    return shrink(picture, max(1, round(rows * scale)), max(1, round(columns * scale))), scale


def shrink(picture: Picture, height: int, width: int) -> Picture:
    """The picture at a smaller size, without aliasing.

    Area interpolation by an arbitrary factor costs more than a detector's run (36 ms for 12 megapixels).
    Halving has a fast path in OpenCV: so halve while that is not too small, then interpolate linearly by what
    is left, at most 2.
    """
    steps = halvings(picture.shape[0], picture.shape[1], height, width)
    if not steps and max(picture.shape[0] / height, picture.shape[1] / width) > 2:
        return _resized(picture, height, width, cv2.INTER_AREA)
    for _ in range(steps):
        rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
        picture = _resized(picture[: rows * 2, : columns * 2], rows, columns, cv2.INTER_AREA)
    return _resized(picture, height, width, cv2.INTER_LINEAR)


def halvings(rows: int, columns: int, height: int, width: int) -> int:
    """How often `shrink` halves. Odd rows and columns are lost: it shows `rows >> n << n` of the picture's
    rows.
    """
    steps = 0
    while rows >> (steps + 1) >= height and columns >> (steps + 1) >= width:
        steps += 1
    return steps


def pad_to_multiple(picture: Picture, multiple: int) -> Picture:
    """The picture with black added on the right and at the bottom until both sides are multiples of
    `multiple`.
    """
    rows, columns = picture.shape[:2]
    bottom, right = -rows % multiple, -columns % multiple
    if not bottom and not right:
        return picture
    padded = np.zeros((rows + bottom, columns + right, 3), np.uint8)
    padded[:rows, :columns] = picture
    return padded


def _resized(picture: Picture, height: int, width: int, interpolation: int) -> Picture:
    result: Picture = cv2.resize(picture, (width, height), interpolation=interpolation)  # type: ignore[assignment]
    return result
