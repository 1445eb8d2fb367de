"""The 68 landmarks of the iBUG annotation: contour, brows, nose, eyes and lips, from a close-up of the face."""

from dataclasses import dataclass

import numpy as np

from mien.errors import ManifestInvalid, ModelError
from mien.vision.preprocessing import to_tensor
from mien.vision.types import Array, Image, Outputs
from mien.vision.upright import CloseUp, Square, close_up, square_around
from mien.zoo.manifest import Input, Manifest

COUNT = 68
FIRST_LOOK = 1.1
"""Side of the first close-up in sides of the face's box."""
SECOND_LOOK = 1.1
"""Side of the second close-up in extents of the landmarks of the first: how exactly the box lies no longer matters (a
shift by 5 % of its width moves the landmarks by 0.8 % of the distance of the eyes, 2.9 % after one look)."""
MIRRORED = np.array(
    [
        *range(16, -1, -1),  # contour
        *range(26, 16, -1),  # brows
        *(27, 28, 29, 30, 35, 34, 33, 32, 31),  # nose
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),  # lips
    ]
)
"""Which landmark of a mirrored face each landmark is."""


@dataclass(frozen=True, slots=True)
class Landmarks68:
    """One output: x and y of each landmark, 0..1 over the close-up. Looked at twice, once mirrored; the mean counts."""

    name: str
    input: Input

    @property
    def size(self) -> int:
        return self.input.height or 0

    def first(self, image: Image, box: Array, landmarks: Array) -> CloseUp:
        """The face in `box` [4] with `landmarks` [5, 2], upright."""
        return close_up(image, square_around(box, landmarks, FIRST_LOOK), self.size)

    def second(self, image: Image, crop: CloseUp, points: Array, roll: float) -> CloseUp:
        """The face around the `points` [68, 2], in pixels of the first `crop`, which was turned by `roll` degrees."""
        low, high = points.min(0), points.max(0)
        scale = float(np.hypot(crop.matrix[0, 0], crop.matrix[1, 0]))
        side = SECOND_LOOK * float((high - low).max()) / scale
        return close_up(image, Square(crop.to_source((low + high) / 2), side, roll), self.size)

    def prepare(self, crop: CloseUp) -> tuple[Array, Array]:
        """The close-up and its mirror image as inputs of the model, without a batch axis."""
        straight = to_tensor(crop.image, self.input, self.size, self.size)
        return straight, np.ascontiguousarray(straight[..., ::-1])

    def decode(self, straight: Outputs, mirrored: Outputs) -> Array:
        """Landmarks [68, 2] in pixels of the close-up. Raises ModelError for outputs of another shape."""
        points, other = self._points(straight), self._points(mirrored)[MIRRORED]
        other[:, 0] = self.size - 1 - other[:, 0]
        mean: Array = (points + other) / 2
        return mean

    def _points(self, outputs: Outputs) -> Array:
        first = next(iter(outputs.values()), np.zeros(0, np.float32)).reshape(-1)
        if len(first) != 2 * COUNT:
            raise ModelError(f"{self.name}: the first output holds {len(first)} numbers, expected {2 * COUNT}")
        points: Array = first.reshape(COUNT, 2) * np.float32(self.size)
        return points


def build_landmarks_68(manifest: Manifest) -> Landmarks68:
    """The reader for `manifest`. Raises ManifestInvalid for another family, or without a square input."""
    if manifest.family != "landmarks_68":
        raise ManifestInvalid(
            f"{manifest.name}: {manifest.family!r} is not a family of landmark models; there is: landmarks_68"
        )
    spec = manifest.input
    if spec is None or not spec.height or spec.height != spec.width:
        raise ManifestInvalid(f"{manifest.name}: needs a square [input]")
    return Landmarks68(manifest.name, spec)
