"""Head pose: where a face looks, from a close-up of the head and from the five landmarks."""

from dataclasses import dataclass

import numpy as np

from mien.errors import ManifestInvalid, ModelError
from mien.vision.preprocessing import to_tensor
from mien.vision.types import Array, Image, Outputs
from mien.vision.upright import CloseUp, close_up, square_around
from mien.zoo.manifest import Input, Manifest

BINS = 66
BIN_DEGREES = 3.0
FIRST_BIN = -99.0
"""Degrees, as in the training of Hopenet (Ruiz, Chong, Rehg: Fine-Grained Head Pose Estimation, 2018)."""
HEAD = 1.25
"""Side of the close-up in sides of the face's box. Of 1.0 to 1.4, where mirrored faces disagree least and yaw follows
the geometry of the landmarks best (see docs/insightface.md)."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a face looks, in degrees; all 0: straight into an upright camera."""

    roll: float
    """-180..180; positive: the head leans clockwise as seen in the image."""
    yaw: float | None = None
    """Positive: turned to the left edge of the image. None: there is no pose model."""
    pitch: float | None = None
    """Positive: looking up. None: there is no pose model."""


@dataclass(frozen=True, slots=True)
class HopenetPose:
    """66 bins of 3 degrees for yaw, pitch and roll; an angle is the expected value over its bins.

    The head is turned upright first, and looked at twice, once mirrored: the mean of both has none of the model's bias
    to one side, so that the mirror image of a face has the opposite yaw.
    """

    name: str
    input: Input
    outputs: tuple[str, ...]

    @property
    def size(self) -> int:
        return self.input.height or 0

    def crop(self, image: Image, box: Array, landmarks: Array) -> CloseUp:
        """The head in `box` [4] with `landmarks` [5, 2], upright."""
        return close_up(image, square_around(box, landmarks, HEAD), self.size)

    def prepare(self, crop: CloseUp) -> tuple[Array, Array]:
        """The close-up and its mirror image as inputs of the model, without a batch axis."""
        straight = to_tensor(crop.image, self.input, self.size, self.size)
        return straight, np.ascontiguousarray(straight[..., ::-1])

    def decode(self, straight: Outputs, mirrored: Outputs) -> tuple[float, float]:
        """Yaw and pitch in degrees. Raises ModelError for outputs of another shape."""
        yaw, pitch = self._angles(straight)
        other_yaw, other_pitch = self._angles(mirrored)
        return (yaw - other_yaw) / 2, (pitch + other_pitch) / 2

    def _angles(self, outputs: Outputs) -> tuple[float, float]:
        try:
            yaw, pitch = (outputs[name].reshape(-1) for name in self.outputs[:2])
        except (KeyError, ValueError) as error:
            raise ModelError(f"{self.name}: the outputs {sorted(outputs)} are not those of a pose model") from error
        return self._expected(yaw), self._expected(pitch)

    def _expected(self, logits: Array) -> float:
        if len(logits) != BINS:
            raise ModelError(f"{self.name}: an output holds {len(logits)} numbers, expected {BINS}")
        weights = np.exp(logits - logits.max())
        return float(weights @ np.arange(BINS) / weights.sum()) * BIN_DEGREES + FIRST_BIN


def build_pose_reader(manifest: Manifest) -> HopenetPose:
    """The reader for `manifest`. Raises ManifestInvalid for another family, or without input and outputs."""
    if manifest.family != "hopenet":
        raise ManifestInvalid(f"{manifest.name}: {manifest.family!r} is not a family of pose models; there is: hopenet")
    spec = manifest.input
    if spec is None or not spec.height or spec.height != spec.width or len(manifest.outputs) < 2:
        raise ManifestInvalid(f"{manifest.name}: needs a square [input], and the outputs of yaw and pitch")
    return HopenetPose(manifest.name, spec, manifest.outputs)
