"""Aligned crops: warp a face so that its five landmarks lie where the model was trained to expect them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.vision.preprocessing import shrink
from mien.vision.types import Array, Image
from mien.vision.warp import Affine, warped

ARCFACE_TEMPLATE: Array = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""[5, 2] x, y in a 112×112 crop, as in the training of ArcFace and its successors (Deng et al., 2019)."""

ARCFACE_SIZE = 112

DLIB_TEMPLATE: Array = np.array(
    [[0.2118, 0.2032], [0.7726, 0.1992], [0.4936, 0.4962], [0.2580, 0.7408], [0.7361, 0.7468]], np.float32
)
"""[5, 2] x, y in the unit square of dlib's face chip, for the same five landmarks."""

DLIB_PADDING = 0.2


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> Affine:
    """The similarity transform [..., 2, 3] that best maps `source` [..., P, 2] onto `target` [P, 2] (least squares).

    Rotation, uniform scale and translation, never a reflection: in two dimensions, Umeyama's solution (1991) has this
    closed form, without a singular value decomposition. If all points coincide, everything maps to the target's centre.
    """
    source = np.asarray(source, np.float64)
    target = np.asarray(target, np.float64)
    centre, aim = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    p, q = source - centre, target - aim
    spread = np.maximum((p * p).sum((-2, -1)), 1e-12)
    a = (p * q).sum((-2, -1)) / spread
    b = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(-1) / spread
    x, y = centre[..., 0, 0], centre[..., 0, 1]
    matrix = np.empty((*source.shape[:-2], 2, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = a
    matrix[..., 0, 1] = -b
    matrix[..., 1, 0] = b
    matrix[..., 0, 2] = aim[..., 0, 0] - a * x + b * y
    matrix[..., 1, 2] = aim[..., 0, 1] - b * x - a * y
    return matrix


def align(image: Image, landmarks: Array, size: int = ARCFACE_SIZE) -> Image:
    """The `size` × `size` BGR crop in which the five `landmarks` [5, 2] (image pixels) lie on the ArcFace template.

    Sampled bilinearly from the original image, large faces halved first; black beyond its edges.
    """
    matrix = similarity(landmarks, ARCFACE_TEMPLATE * np.float32(size / ARCFACE_SIZE))
    return warped(image, matrix, size)


def dlib_chip(image: Image, landmarks: Array, size: int) -> Image:
    """A face chip as dlib extracts it: `size` × `size` BGR, with replicated edges. Large faces are shrunk first, to
    avoid aliasing."""
    template = (DLIB_TEMPLATE + DLIB_PADDING) / (2 * DLIB_PADDING + 1) * size
    matrix = similarity(landmarks, template)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if 0 < scale < 0.75:
        image, landmarks = _shrunk_face(image, landmarks, scale)
        matrix = similarity(landmarks, template)
    return warped(image, matrix, size, cv2.BORDER_REPLICATE)


def box_chip(image: Image, box: Array, size: int = 96) -> Image:
    """The square around `box` (x1, y1, x2, y2) with 1.5 × its longer side, as `size` × `size` BGR.

    As InsightFace crops for its age and gender model; black beyond the image's edges.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    scale = size / (max(x2 - x1, y2 - y1, 1.0) * 1.5)
    shift_x, shift_y = size / 2 - scale * (x1 + x2) / 2, size / 2 - scale * (y1 + y2) / 2
    return warped(image, np.array([[scale, 0, shift_x], [0, scale, shift_y]]), size, cv2.BORDER_CONSTANT)


def mask_crop(image: Image, box: Array, size: int = 224) -> Image:
    """The content of `box` (x1, y1, x2, y2), clipped to the image and stretched to `size` × `size` BGR."""
    height, width = image.shape[:2]
    x1, y1 = (int(np.clip(value, 0, limit - 1)) for value, limit in ((box[0], width), (box[1], height)))
    x2 = int(np.clip(box[2], x1 + 1, width))
    y2 = int(np.clip(box[3], y1 + 1, height))
    crop: Image = cv2.resize(image[y1:y2, x1:x2], (size, size))  # type: ignore[assignment]
    return crop


def _shrunk_face(image: Image, landmarks: Array, scale: float) -> tuple[Image, Array]:
    """The part of the image around the landmarks, scaled by about `scale`, and the landmarks in it."""
    centre = landmarks.mean(0)
    reach = 3 * float(np.abs(landmarks - centre).max()) + 2 / scale
    height, width = image.shape[:2]
    x1, y1 = (int(np.clip(c - reach, 0, limit - 1)) for c, limit in zip(centre, (width, height), strict=True))
    x2, y2 = (int(np.clip(c + reach, 1, limit)) for c, limit in zip(centre, (width, height), strict=True))
    part = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    rows, columns = (max(1, round(side * scale)) for side in part.shape[:2])
    factor = np.array([columns / part.shape[1], rows / part.shape[0]], np.float32)
    moved = (landmarks - np.array([x1, y1], np.float32) + 0.5) * factor - 0.5
    return shrink(part, rows, columns), moved.astype(np.float32)
