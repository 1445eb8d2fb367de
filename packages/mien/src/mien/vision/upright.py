"""Upright close-ups: squares around faces, turned so that the head stands upright, for models of the whole head."""

from dataclasses import dataclass

import cv2
import numpy as np

from mien.vision.align import ARCFACE_TEMPLATE, similarity
from mien.vision.types import Array, Image
from mien.vision.warp import Affine, warped


@dataclass(frozen=True, slots=True)
class Square:
    """A square in an image: `side` pixels, turned by `roll`."""

    centre: Array
    """[2] x, y in image pixels."""
    side: float
    roll: float
    """Degrees; positive: clockwise as seen in the image."""


@dataclass(frozen=True, slots=True)
class CloseUp:
    """The content of a square, upright, and where it came from."""

    image: Image
    """[size, size, 3]; black beyond the image's edges."""
    matrix: Affine
    """[2, 3]: maps image pixels to close-up pixels."""

    def to_source(self, points: Array) -> Array:
        """Map `points` [..., 2] from close-up pixels to image pixels, float32."""
        back = cv2.invertAffineTransform(self.matrix)
        moved: Array = (points @ back[:, :2].T + back[:, 2]).astype(np.float32)
        return moved


def roll_of(landmarks: Array) -> float:
    """How far the head with these five `landmarks` [5, 2] leans, -180..180 degrees; positive: clockwise in the image.

    The rotation of the similarity transform from upright landmarks: all five count, not only the line of the eyes.
    """
    matrix = similarity(landmarks, ARCFACE_TEMPLATE)
    return float(np.degrees(np.arctan2(-matrix[1, 0], matrix[0, 0])))


def square_around(box: Array, landmarks: Array, factor: float) -> Square:
    """The square around `box` (x1, y1, x2, y2) with `factor` × its mean side, turned as the landmarks [5, 2] are."""
    width, height = box[2:] - box[:2]
    side = factor * float(np.sqrt(max(width, 1.0) * max(height, 1.0)))
    return Square(((box[:2] + box[2:]) / 2).astype(np.float32), side, roll_of(landmarks))


def close_up(image: Image, square: Square, size: int) -> CloseUp:
    """The `square` of the image as an upright `size` × `size` BGR image."""
    scale, angle = size / max(square.side, 1.0), np.radians(-square.roll)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack((turn, size / 2 - turn @ square.centre))
    return CloseUp(warped(image, matrix, size), matrix)
