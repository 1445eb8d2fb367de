"""Quality of a face, 0..1: how far its embedding can be trusted.

A logistic function of what damage shows in: the length of the raw embedding, the face's size in pixels, its sharpness
and how far it leans. 0.5: half of the faces that look like this no longer match an undamaged photo of the same person.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mien.vision.align import ARCFACE_SIZE, ARCFACE_TEMPLATE, similarity
from mien.vision.types import Array, Image
from mien.vision.upright import roll_of

INNER = (slice(6, 26), slice(5, 23))
"""Rows and columns of a crop of 28 × 28 that show the face: no background, hair or black beyond the image's edges."""
DETAIL_SIDE = 28
"""Pixels. Of 28, 56 and 112, where sharpness tells most about matching: noise and JPEG blocks count less than blur."""
ENOUGH = 24.0
"""Pixels across the aligned crop, about 14 across the face, above which more of them say nothing that the length of the
embedding and sharpness do not."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of the logistic function."""

    bias: float
    norm: float
    """Per unit of the raw embedding's length."""
    size: float
    """Per octave of `Signs.size`."""
    sharpness: float
    """Per octave of `Signs.sharpness`."""
    roll: float
    """Per 90 degrees; 0 or less."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What the quality of a face shows in."""

    norm: float
    """Length of the raw embedding."""
    size: float
    """Octaves by which the aligned crop has fewer than ENOUGH pixels of the image; 0 or less."""
    sharpness: float
    """Octaves: detail of the aligned crop in units of its contrast."""
    roll: float
    """Degrees, 0..180."""


CALIBRATIONS = {
    "fr_feature": Calibration(bias=-3.59, norm=1.78, size=4.32, sharpness=1.97, roll=-1.65),
    "sface": Calibration(bias=-4.13, norm=0.63, size=0.0, sharpness=0.86, roll=-1.31),
}
"""By recogniser; fitted by benchmarks/quality.py to 1,430 damaged faces of 48 portraits. See docs/models.md."""
OTHER = Calibration(bias=1.43, norm=0.0, size=5.05, sharpness=2.38, roll=-1.25)
"""For recognisers whose raw length was not measured: what the image alone shows, fitted as that of fr_feature."""


def calibration_of(recogniser: str) -> Calibration:
    """The calibration for the embeddings of a recogniser, by its name."""
    return CALIBRATIONS.get(recogniser, OTHER)


def quality_of(calibration: Calibration, crop: Image, landmarks: Array, norm: float) -> float:
    """The quality of a face, 0..1.

    `crop`: aligned, [112, 112, 3]. `landmarks`: [5, 2] in image pixels. `norm`: length of the raw embedding.
    """
    return probability(calibration, signs_of(crop, landmarks, norm))


def probability(calibration: Calibration, signs: Signs) -> float:
    """The logistic function of the weighted signs."""
    score = (
        calibration.bias
        + calibration.norm * signs.norm
        + calibration.size * signs.size
        + calibration.sharpness * signs.sharpness
        + calibration.roll * signs.roll / 90
    )
    return float(1 / (1 + np.exp(-np.clip(score, -60, 60))))


def signs_of(crop: Image, landmarks: Array, norm: float) -> Signs:
    """What the quality shows in; see `quality_of` for the arguments."""
    matrix = similarity(landmarks, ARCFACE_TEMPLATE)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))  # pixels of the crop per pixel of the image
    pixels = ARCFACE_SIZE / max(scale, 1e-3)
    return Signs(norm, min(0.0, float(np.log2(pixels / ENOUGH))), sharpness_of(crop), abs(roll_of(landmarks)))


def sharpness_of(crop: Image) -> float:
    """Octaves: the Laplacian's deviation over the face in units of the contrast."""
    gray = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).astype(np.float32)
    small = cv2.resize(gray, (DETAIL_SIDE, DETAIL_SIDE), interpolation=cv2.INTER_AREA)
    detail, contrast = cv2.Laplacian(small, cv2.CV_32F)[INNER].std(), small[INNER].std()
    return float(np.log2(max(float(detail), 1e-2) / max(float(contrast), 1.0)))
