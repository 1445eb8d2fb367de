"""YuNet: the small anchor-free detector of the OpenCV model zoo (Wu, Peng, Yu: YuNet, 2023)."""

from dataclasses import dataclass

import numpy as np

from mien.errors import ModelError
from mien.vision.detectors.base import Prepared, largest_input, prepare, select, strongest
from mien.vision.types import EMPTY, Array, Detections, Image, Outputs
from mien.zoo.manifest import Input

STRIDES = (8, 16, 32)
LARGEST_LOG_SIZE = 12.0
"""e¹² strides exceed any image; keeps invalid outputs finite."""


@dataclass(frozen=True, slots=True)
class YuNet:
    """Outputs `cls_S`, `obj_S` [C, 1], `bbox_S` [C, 4], `kps_S` [C, 10] for the strides S, C = (H/S)·(W/S) cells."""

    name: str
    input: Input

    @property
    def largest_input(self) -> int:
        return largest_input(self.input)

    def prepare(self, image: Image, longest_side: int) -> Prepared:
        return prepare(image, longest_side, self.input, STRIDES[-1])

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
        try:
            candidates = [_above(outputs[f"cls_{s}"], outputs[f"obj_{s}"], threshold) for s in STRIDES]
            if not any(len(scores) for _, scores in candidates):
                return EMPTY
            faces = [
                _faces(outputs[f"bbox_{s}"], outputs[f"kps_{s}"], cells, scores, s, prepared.tensor.shape[2] // s)
                for s, (cells, scores) in zip(STRIDES, candidates, strict=True)
                if len(scores)
            ]
        except (KeyError, IndexError, ValueError) as error:
            raise ModelError(f"{self.name}: the outputs {sorted(outputs)} are not those of a YuNet model") from error
        boxes, scores, landmarks = (np.concatenate(parts) for parts in zip(*faces, strict=True))
        return select(boxes, scores, landmarks, prepared, nms, max_faces, averaged=averaged)


def _above(classes: Array, objects: Array, threshold: float) -> tuple[np.ndarray, Array]:
    """Cells whose score is above the threshold, and the scores. Compares squares first, so that only the few hits need
    a square root."""
    product = classes.reshape(-1) * objects.reshape(-1)
    cells = np.flatnonzero(product > max(threshold, 0.0) ** 2)
    if not len(cells):
        return cells, product[:0]
    clipped = classes.reshape(-1)[cells].clip(0, 1) * objects.reshape(-1)[cells].clip(0, 1)
    scores = np.sqrt(clipped)
    above = scores > threshold
    return strongest(cells[above], scores[above])


def _faces(
    boxes: Array, points: Array, cells: np.ndarray, scores: Array, stride: int, columns: int
) -> tuple[Array, Array, Array]:
    grid = np.empty((len(cells), 2), np.float32)
    grid[:, 1], grid[:, 0] = np.divmod(cells, columns)
    box = boxes[cells]
    centres = (grid + box[:, :2]) * np.float32(stride)
    halves = np.exp(np.minimum(box[:, 2:], LARGEST_LOG_SIZE)) * np.float32(stride / 2)
    landmarks = (points[cells].reshape(-1, 5, 2) + grid[:, None]) * np.float32(stride)
    return np.concatenate((centres - halves, centres + halves), axis=1), scores, landmarks
