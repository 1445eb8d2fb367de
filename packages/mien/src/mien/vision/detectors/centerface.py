"""CenterFace: faces are peaks of a heat map (Xu, Yan, Yang, Li: CenterFace, 2019)."""

from dataclasses import dataclass

import numpy as np

from mien.errors import ModelError
from mien.vision.detectors.base import Prepared, largest_input, prepare, select, strongest
from mien.vision.types import EMPTY, Array, Detections, Image, Outputs
from mien.zoo.manifest import Input

STRIDE = 4
MULTIPLE = 32
LARGEST_LOG_SIZE = 12.0
DEFAULT_OUTPUTS = ("537", "538", "539", "540")


@dataclass(frozen=True, slots=True)
class CenterFace:
    """Outputs, in this order: heat map [1, h, w], log size (height, width) [2, h, w], offset (y, x) [2, h, w] and
    landmarks as (y, x) pairs relative to the box [10, h, w]; h = H/4, w = W/4.
    """

    name: str
    input: Input
    outputs: tuple[str, ...] = DEFAULT_OUTPUTS

    @property
    def largest_input(self) -> int:
        return largest_input(self.input)

    def prepare(self, image: Image, longest_side: int) -> Prepared:
        return prepare(image, longest_side, self.input, MULTIPLE)

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
            heat, size, offset, points = (outputs[name] for name in self.outputs)
            cells = np.flatnonzero(heat > threshold)
            if not len(cells):
                return EMPTY
            cells, scores = strongest(cells, heat.reshape(-1)[cells])
            boxes, landmarks = _faces(size, offset, points, cells)
        except (KeyError, IndexError, ValueError) as error:
            raise ModelError(f"{self.name}: the outputs {sorted(outputs)} are not those of CenterFace") from error
        return select(boxes, scores, landmarks, prepared, nms, max_faces, averaged=averaged)


def _faces(size: Array, offset: Array, points: Array, cells: np.ndarray) -> tuple[Array, Array]:
    """Boxes [N, 4] and landmarks [N, 5, 2] in pixels of the input."""
    rows, columns = np.divmod(cells, size.shape[2])
    sizes = np.exp(np.minimum(size[:, rows, columns], LARGEST_LOG_SIZE)) * np.float32(STRIDE)
    centres = (np.stack((rows, columns)) + offset[:, rows, columns] + np.float32(0.5)) * np.float32(STRIDE)
    corners = centres - sizes / 2
    boxes = np.concatenate((corners[::-1], (corners + sizes)[::-1])).T
    pairs = points[:, rows, columns].reshape(5, 2, -1) * sizes + corners
    return boxes.astype(np.float32), pairs[:, ::-1].transpose(2, 0, 1).astype(np.float32)
