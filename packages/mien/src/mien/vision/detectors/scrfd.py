"""SCRFD: the detector of the InsightFace packs (Guo, Deng, Lattas, Zafeiriou: SCRFD, 2021)."""

from dataclasses import dataclass

import numpy as np

from mien.errors import ModelError
from mien.vision.detectors.base import Prepared, largest_input, prepare, select, strongest
from mien.vision.types import EMPTY, Array, Detections, Image, Outputs
from mien.zoo.manifest import Input

STRIDES = (8, 16, 32)
ANCHORS = 2
"""Per cell; both are at the cell's top-left corner."""
FIELDS = (1, 4, 10)
"""Values per anchor: score, box distances, landmark offsets."""


@dataclass(frozen=True, slots=True)
class Scrfd:
    """Nine outputs: scores [A, 1], boxes [A, 4] and landmarks [A, 10] for each stride, A = 2·(H/S)·(W/S) anchors.

    If the manifest does not name them, outputs are distinguished by shape. Models from the InsightFace packs have these
    shapes even before the batch axis is removed (rank 2, not 3), so they can only process one image at a time.
    """

    name: str
    input: Input
    outputs: tuple[str, ...] = ()

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
        height, width = prepared.tensor.shape[1:]
        levels = self._levels(outputs, height, width)
        faces = [_faces(level, s, width // s, threshold) for s, level in zip(STRIDES, levels, strict=True)]
        boxes, scores, landmarks = (np.concatenate(parts) for parts in zip(*faces, strict=True))
        return select(boxes, scores, landmarks, prepared, nms, max_faces, averaged=averaged) if len(scores) else EMPTY

    def _levels(self, outputs: Outputs, height: int, width: int) -> list[tuple[Array, Array, Array]]:
        """Scores, boxes and landmarks of each stride."""
        arrays = [outputs[name] for name in self.outputs if name in outputs] or list(outputs.values())
        by_shape = {array.shape: array for array in arrays if array.ndim == 2}
        anchors = [ANCHORS * (height // s) * (width // s) for s in STRIDES]
        try:
            score, box, points = ([by_shape[count, field] for count in anchors] for field in FIELDS)
        except KeyError as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ModelError(
                f"{self.name}: no output of shape {error.args[0]} for a {width}x{height} input; there are: {shapes}"
            ) from error
        return list(zip(score, box, points, strict=True))


def _faces(
    level: tuple[Array, Array, Array], stride: int, columns: int, threshold: float
) -> tuple[Array, Array, Array]:
    scores, distances, offsets = level
    flat = scores.reshape(-1)
    index = np.flatnonzero(flat > threshold)
    index, chosen = strongest(index, flat[index])
    corners = np.empty((len(index), 2), np.float32)
    corners[:, 1], corners[:, 0] = np.divmod(index // ANCHORS, columns)
    corners *= np.float32(stride)
    reach = distances[index] * np.float32(stride)
    boxes = np.concatenate((corners - reach[:, :2], corners + reach[:, 2:]), axis=1)
    points = corners[:, None] + offsets[index].reshape(-1, 5, 2) * np.float32(stride)
    return boxes, chosen, points
