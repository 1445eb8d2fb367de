"""Models of the whole head, run on the faces of an image: pose and 68 landmarks. Block their thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mien.engine.cancellation import CancelScope
from mien.engine.models import Model
from mien.vision.landmarks_68 import Landmarks68
from mien.vision.pose import HopenetPose, Pose
from mien.vision.types import Array, Detections, Image, Outputs
from mien.vision.upright import CloseUp, roll_of


@dataclass(frozen=True, slots=True)
class PoseEstimator:
    """A pose model with the code around it."""

    reader: HopenetPose
    model: Model

    def poses(self, image: Image, found: Detections, scope: CancelScope) -> list[Pose]:
        """The pose of each face. Raises what Model.run raises, and ModelError."""
        faces = list(zip(found.boxes, found.landmarks, strict=True))
        crops = [self.reader.crop(image, box, points) for box, points in faces]
        angles = [self.reader.decode(*pair) for pair in _both_ways(self.reader, self.model, crops, scope)]
        return [Pose(roll_of(points), *angle) for (_, points), angle in zip(faces, angles, strict=True)]


@dataclass(frozen=True, slots=True)
class LandmarkFinder:
    """A model of 68 landmarks with the code around it."""

    reader: Landmarks68
    model: Model

    def landmarks(self, image: Image, found: Detections, scope: CancelScope) -> list[Array]:
        """The landmarks [68, 2] of each face in image pixels. Raises what Model.run raises, and ModelError."""
        faces = list(zip(found.boxes, found.landmarks, strict=True))
        crops = [self.reader.first(image, box, points) for box, points in faces]
        seen = self._seen(crops, scope)
        crops = [
            self.reader.second(image, crop, points, roll_of(five))
            for crop, points, (_, five) in zip(crops, seen, faces, strict=True)
        ]
        return [crop.to_source(points) for crop, points in zip(crops, self._seen(crops, scope), strict=True)]

    def _seen(self, crops: Sequence[CloseUp], scope: CancelScope) -> list[Array]:
        return [self.reader.decode(*pair) for pair in _both_ways(self.reader, self.model, crops, scope)]


class _Reader(Protocol):
    def prepare(self, crop: CloseUp) -> tuple[Array, Array]: ...


def _both_ways(
    reader: _Reader, model: Model, crops: Sequence[CloseUp], scope: CancelScope
) -> list[tuple[Outputs, Outputs]]:
    """The model's outputs for each close-up and for its mirror image."""
    outputs = model.run([tensor for crop in crops for tensor in reader.prepare(crop)], scope)
    return list(zip(outputs[::2], outputs[1::2], strict=True))
