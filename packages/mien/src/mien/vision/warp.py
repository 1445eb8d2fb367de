"""Part of an image through an affine map, without aliasing."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.vision.types import Image

Affine = NDArray[np.float64]
"""[2, 3]: maps source pixels to crop pixels."""


def warped(image: Image, matrix: Affine, size: int, border: int = cv2.BORDER_CONSTANT) -> Image:
    """`size` × `size` pixels of the image through the similarity transform `matrix`, sampled bilinearly.

    A source at least twice as large is halved first, as often as it can be: bilinear sampling would skip pixels, and a
    shift of the face by a third of a pixel would change the crop. Beyond the image's edges as `border` says.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if 0 < scale <= 0.5:
        image, matrix = _halved(image, matrix, size, int(np.log2(1 / scale)))
    crop: Image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)  # type: ignore[assignment]
    return crop


def _halved(image: Image, matrix: Affine, size: int, times: int) -> tuple[Image, Affine]:
    """The part of the image that the crop shows, halved `times` times, and the map from it to the crop."""
    height, width = image.shape[:2]
    times = min(times, int(np.log2(min(height, width))))
    step = 1 << times
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ back[:, :2].T + back[:, 2]
    # A whole number of steps: the same pixels are averaged wherever the crop begins.
    x1, y1 = (
        int(np.clip(low // step - 1, 0, side // step - 1)) for low, side in _paired(corners.min(0), width, height)
    )
    x2, y2 = (int(np.clip(high // step + 2, 1, side // step)) for high, side in _paired(corners.max(0), width, height))
    part = image[y1 * step : max(y2, y1 + 1) * step, x1 * step : max(x2, x1 + 1) * step]
    smaller = part
    for _ in range(times):  # OpenCV has a fast path for halves: a quarter at once takes three times as long
        half = (smaller.shape[1] // 2, smaller.shape[0] // 2)
        smaller = cv2.resize(smaller, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    # Pixel i of the smaller image is centred on pixel i * step + (step - 1) / 2 of the part.
    centre = (step - 1) / 2
    moved = matrix[:, :2] @ np.array([x1 * step + centre, y1 * step + centre]) + matrix[:, 2]
    return smaller, np.column_stack((matrix[:, :2] * step, moved))


def _paired(corner: NDArray[np.float64], width: int, height: int) -> tuple[tuple[float, int], tuple[float, int]]:
    return (float(corner[0]), width), (float(corner[1]), height)
