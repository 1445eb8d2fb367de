"""Images turned by quarters, and what was found in them in pixels of the image as it is."""

from dataclasses import replace

import cv2
import numpy as np

from mien.vision.types import Array, Detections, Image

QUARTER_TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180)
"""Turns that make heads stand that lie on their side or are upside down."""


def quarter_turned(image: Image, turn: int) -> Image:
    """The image after one of the `QUARTER_TURNS`."""
    turned: Image = cv2.rotate(image, turn)  # type: ignore[assignment]
    return turned


def turned_back(found: Detections, turn: int, height: int, width: int) -> Detections:
    """What was found in a turned image in pixels of the image itself, which is `height` × `width`.

    The landmarks keep their order: the left eye is the one that is left where the head stands upright.
    """
    corners = _back(found.boxes.reshape(-1, 2, 2), turn, height, width)
    boxes = np.concatenate((corners.min(1), corners.max(1)), axis=1)
    return replace(found, boxes=boxes, landmarks=_back(found.landmarks, turn, height, width))


def _back(points: Array, turn: int, height: int, width: int) -> Array:
    """[..., 2] x, y."""
    x, y = points[..., 0], points[..., 1]
    if turn == cv2.ROTATE_90_CLOCKWISE:
        return np.stack((y, height - 1 - x), axis=-1).astype(np.float32)
    if turn == cv2.ROTATE_180:
        return np.stack((width - 1 - x, height - 1 - y), axis=-1).astype(np.float32)
    return np.stack((width - 1 - y, x), axis=-1).astype(np.float32)
