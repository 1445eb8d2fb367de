"""Types shared by the vision pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""[height, width, 3] uint8, **BGR**, upright (EXIF orientation applied), C-contiguous."""

Array: TypeAlias = NDArray[np.float32]

Outputs: TypeAlias = dict[str, Array]
"""A model's outputs for one item by name, without the batch axis."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces of one image, best score first. Coordinates are pixels of the original image."""

    boxes: Array
    """[N, 4] float32: x1, y1, x2, y2; not clipped to the image."""
    scores: Array
    """[N] float32 in 0..1."""
    landmarks: Array
    """[N, 5, 2] float32 x, y: image-left eye, image-right eye, nose, image-left and image-right mouth corner."""
    scales: Array
    """[N] float32: the scale at which the detector saw the face, in its pixels per pixel of the image."""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> "Detections":
        """The detections at `index` (integers or a mask), in that order."""
        return Detections(self.boxes[index], self.scores[index], self.landmarks[index], self.scales[index])


EMPTY = Detections(
    np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)
)


def joined(parts: Sequence[Detections]) -> Detections:
    """The faces of all parts, one after the other."""
    return (
        Detections(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Detections)))
        if parts
        else EMPTY
    )
