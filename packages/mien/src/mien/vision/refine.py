"""The second landmark pass: landmarks from a close-up are much more accurate than those from the whole image."""

from dataclasses import dataclass

import cv2
import numpy as np

from mien.vision.types import Array, Detections, Image

CROP_SIDE = 256
FACE_SIDE = 128
"""Length of a face's longer side in the crop, in pixels."""
THRESHOLD = 0.5
"""Detection threshold of the second pass."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A square close-up of one face. Inverse mapping: source = (crop - CROP_SIDE / 2) / factor + centre."""

    image: Image
    """[256, 256, 3]; black beyond the source's edges."""
    factor: float
    """Crop pixels per source pixel."""
    centre_x: float
    """Centre of the face's box in the source, pixels."""
    centre_y: float

    def to_source(self, points: Array) -> Array:
        """Map `points` [..., 2] from crop pixels to source pixels, float32."""
        centre = np.array([self.centre_x, self.centre_y])
        moved: Array = ((points - CROP_SIDE / 2) / self.factor + centre).astype(np.float32)
        return moved


def refine_crop(image: Image, box: Array) -> Crop:
    """A close-up of the face in `box` (x1, y1, x2, y2, image pixels)."""
    x1, y1, x2, y2 = (float(value) for value in box)
    factor = FACE_SIDE / max(x2 - x1, y2 - y1, 1.0)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    matrix = np.array([[factor, 0, CROP_SIDE / 2 - x * factor], [0, factor, CROP_SIDE / 2 - y * factor]])
    crop: Image = cv2.warpAffine(image, matrix, (CROP_SIDE, CROP_SIDE), flags=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return Crop(crop, factor, x, y)


def refined_landmarks(found: Detections, crop: Crop, fallback: Array) -> Array:
    """Landmarks [5, 2] in source pixels: those of the detection closest to the crop's centre.

    `found`: the detections in the crop, in crop pixels. Without any, returns `fallback`.
    """
    if not len(found):
        return fallback
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - CROP_SIDE / 2
    return crop.to_source(found.landmarks[int(np.argmin((centres * centres).sum(1)))])
