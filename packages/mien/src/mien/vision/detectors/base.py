"""The interface of face detectors, and the code that they share."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mien.vision.detectors.scales import TILE
from mien.vision.nms import best, iou, nms
from mien.vision.preprocessing import fit, halvings, to_tensor
from mien.vision.types import EMPTY, Array, Detections, Image, Outputs
from mien.zoo.manifest import Input

SAME_FACE = 0.5
"""Intersection over union from which two candidates are of the same face."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a detector's input."""

    tensor: Array
    """[3, H, W] float32; H and W are padded to the model's multiple. Inputs of equal shape can share a batch."""
    scale: float
    """Pixels of the input per pixel of the source image, ≤ 1."""
    height: int
    """Rows of the input that contain the image; the rest is padding."""
    width: int
    stretch: tuple[float, float]
    """Source pixels per input pixel, x and y: 1 / scale apart from rounding."""


class Detector(Protocol):
    """Converts images to model inputs and model outputs to faces. Immutable, so thread-safe."""

    @property
    def name(self) -> str:
        """The manifest's name."""
        ...

    @property
    def largest_input(self) -> int:
        """Longest side, in pixels, of the inputs that it should be given: larger images are looked at in tiles."""
        ...

    def prepare(self, image: Image, longest_side: int) -> Prepared:
        """The image as model input, scaled down so that its longest side is at most `longest_side` pixels."""
        ...

    def decode(
        self,
        outputs: Outputs,
        prepared: Prepared,
        threshold: float,
        nms: float,
        max_faces: int,
        *,
        averaged: bool = False,
    ) -> Detections:
        """At most `max_faces` faces with a score above `threshold`, best first, in pixels of the source image.

        `outputs`: of one item, without the batch axis. `nms`: intersection over union (0..1) above which the worse of
        two boxes is dropped. `averaged`: landmarks are those of all boxes above the threshold that are of the same
        face, not of the best alone; for a threshold that is always the same. Raises ModelError for outputs that are not
        those of the model family.
        """
        ...


def largest_input(spec: Input) -> int:
    """The input's side where the model fixes it, else what runs fastest per pixel."""
    return min(spec.height or TILE, spec.width or TILE)


def prepare(image: Image, longest_side: int, spec: Input, multiple: int) -> Prepared:
    """Scale down, then pad: to the size that `spec` fixes, else to a multiple of `multiple`."""
    resized, scale = fit(image, min(longest_side, spec.height or longest_side, spec.width or longest_side))
    (rows, columns), (height, width) = image.shape[:2], resized.shape[:2]
    steps = halvings(rows, columns, height, width) if scale < 1 else 0
    stretch = (columns >> steps << steps) / width, (rows >> steps << steps) / height
    tall, wide = spec.height or height + -height % multiple, spec.width or width + -width % multiple
    tensor = to_tensor(resized, spec, tall, wide)
    return Prepared(tensor, scale, height, width, stretch)


def select(
    boxes: Array,
    scores: Array,
    landmarks: Array,
    prepared: Prepared,
    overlap: float,
    max_faces: int,
    *,
    averaged: bool = False,
) -> Detections:
    """The faces that remain after non-maximum suppression, in pixels of the source image.

    `boxes` [N, 4], `scores` [N], `landmarks` [N, 5, 2]: the candidates, in pixels of the input. `averaged`: as in
    `Detector.decode`.
    """
    if not len(scores):
        return EMPTY
    kept = nms(boxes, scores, overlap, max_faces)
    stretch = np.array(prepared.stretch, np.float32)
    points = averaged_landmarks(boxes, scores, landmarks, kept) if averaged else landmarks[kept]
    scales = np.full(len(kept), prepared.scale, np.float32)
    return Detections(boxes[kept] * np.tile(stretch, 2), scores[kept], points * stretch, scales)


def averaged_landmarks(boxes: Array, scores: Array, landmarks: Array, kept: np.ndarray) -> Array:
    """The landmarks [K, 5, 2] of the `kept` faces: means over the candidates of the same face, weighted by score².

    Which candidate is the best flips with noise that nobody sees, and moves its landmarks by up to 5 % of the face's
    width; their mean moves little.
    """
    means = np.empty((len(kept), *landmarks.shape[1:]), np.float32)
    for n, index in enumerate(kept):
        same = iou(boxes[index], boxes) > SAME_FACE
        weights = scores[same] ** 2
        means[n] = np.tensordot(weights, landmarks[same], 1) / weights.sum()
    return means


def strongest(index: np.ndarray, scores: Array) -> tuple[np.ndarray, Array]:
    """The best candidates, at most `MAX_CANDIDATES`: selected before boxes are decoded, which is the expensive part."""
    top = best(scores)
    return index[top], scores[top]
