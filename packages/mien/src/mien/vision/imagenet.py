"""ImageNet models: a centre crop in, class probabilities and an embedding out."""

import cv2
import numpy as np

from mien.vision.preprocessing import to_tensor
from mien.vision.types import Array, Image
from mien.zoo.manifest import Input

CROP = 0.875
"""Side of the centre crop relative to the image's shorter side, as in the evaluation of these models."""
SIDE = 224


def central_square(image: Image, side: int) -> Image:
    """The centre crop, 0.875 × the shorter side, as `side` × `side` pixels; bicubic up, area interpolation down."""
    rows, columns = image.shape[:2]
    size = max(1, round(CROP * min(rows, columns)))
    top, left = (rows - size) // 2, (columns - size) // 2
    crop = image[top : top + size, left : left + size]
    while size >= 4 * side:  # halving has a fast path in OpenCV, area interpolation by an arbitrary factor has not
        size //= 2
        crop = cv2.resize(crop[: size * 2, : size * 2], (size, size), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    way = cv2.INTER_AREA if size > side else cv2.INTER_CUBIC
    return cv2.resize(crop, (side, side), interpolation=way)  # type: ignore[return-value]


def imagenet_tensor(image: Image, spec: Input) -> Array:
    """The image as the model's input, without a batch axis."""
    side = spec.width or SIDE
    return to_tensor(central_square(image, side), spec, side, side)


def best_classes(probabilities: Array, count: int) -> tuple[np.ndarray, Array]:
    """Indices and probabilities of the `count` likeliest classes, best first; ties in order of index."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return order, probabilities[order]
