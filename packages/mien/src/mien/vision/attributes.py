"""Age, gender and mask: how each model's input is cropped, and what its outputs mean."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mien.errors import ManifestInvalid, ModelError
from mien.vision.align import box_chip, dlib_chip, mask_crop
from mien.vision.preprocessing import to_tensor
from mien.vision.types import Array, Image, Outputs
from mien.zoo.manifest import Input, Manifest

FEMALE, MALE = 0, 1
"""As InsightFace numbers them."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of one face; None for those that a model does not predict."""

    age: float | None = None
    """Years."""
    gender: int | None = None
    """FEMALE or MALE."""
    gender_score: float | None = None
    """Probability of `gender`, 0.5..1."""
    mask: bool | None = None
    mask_probs: tuple[float, float] | None = None
    """Probabilities of wearing a mask and of not wearing one."""


class AttributeReader(Protocol):
    """Crops a face, converts it to a model's input and decodes the outputs. Immutable, so thread-safe."""

    @property
    def name(self) -> str:
        """The manifest's name."""
        ...

    def crop(self, image: Image, box: Array, landmarks: Array) -> Image:
        """The face cropped as the model expects it.

        `box` [4] and `landmarks` [5, 2] in image pixels. For an aligned crop, pass its whole area and
        `ARCFACE_TEMPLATE`.
        """
        ...

    def prepare(self, crop: Image) -> Array:
        """The crop as the model's input, without a batch axis."""
        ...

    def decode(self, outputs: Outputs) -> Attributes:
        """The attributes encoded in the outputs of one item. Raises ModelError for outputs of another shape."""
        ...


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    input: Input

    @property
    def size(self) -> int:
        return self.input.height or 0

    def prepare(self, crop: Image) -> Array:
        return to_tensor(crop, self.input, *crop.shape[:2])

    def values(self, outputs: Outputs, count: int) -> Array:
        """The first output, flattened. Raises ModelError unless it holds `count` numbers."""
        first = next(iter(outputs.values()), np.zeros(0, np.float32)).reshape(-1)
        if len(first) != count:
            raise ModelError(f"{self.name}: the first output holds {len(first)} numbers, expected {count}")
        return first


class DlibAge(_Reader):
    """81 probabilities for the ages 0.25, 1, 2, … 80; the prediction is the expected value."""

    _AGES = np.concatenate(([0.25], np.arange(1, 81))).astype(np.float32)

    def crop(self, image: Image, box: Array, landmarks: Array) -> Image:
        return dlib_chip(image, landmarks, self.size)

    def decode(self, outputs: Outputs) -> Attributes:
        return Attributes(age=float(self.values(outputs, len(self._AGES)) @ self._AGES))


class DlibGender(_Reader):
    """Probabilities of female and male."""

    def crop(self, image: Image, box: Array, landmarks: Array) -> Image:
        return dlib_chip(image, landmarks, self.size)

    def decode(self, outputs: Outputs) -> Attributes:
        probabilities = self.values(outputs, 2)
        gender = int(probabilities.argmax())
        return Attributes(gender=gender, gender_score=float(probabilities[gender]))


class InsightFaceGenderAge(_Reader):
    """Logits of female and male, and the age in centuries."""

    def crop(self, image: Image, box: Array, landmarks: Array) -> Image:
        return box_chip(image, box, self.size)

    def decode(self, outputs: Outputs) -> Attributes:
        female, male, centuries = (float(value) for value in self.values(outputs, 3))
        score = float(1 / (1 + np.exp(-min(abs(male - female), 60.0))))
        return Attributes(age=max(centuries * 100, 0.0), gender=MALE if male > female else FEMALE, gender_score=score)


class KerasMask(_Reader):
    """Probabilities of wearing a mask and of not wearing one."""

    def crop(self, image: Image, box: Array, landmarks: Array) -> Image:
        return mask_crop(image, box, self.size)

    def decode(self, outputs: Outputs) -> Attributes:
        mask, bare = (float(value) for value in self.values(outputs, 2))
        return Attributes(mask=mask > bare, mask_probs=(mask, bare))


_DLIB_MEAN = (122.782, 117.001, 104.298)
_DLIB_STD = (256.0, 256.0, 256.0)
_FAMILIES: dict[str, tuple[type[DlibAge | DlibGender | InsightFaceGenderAge | KerasMask], Input]] = {
    "dlib_age": (DlibAge, Input(name="images", width=64, height=64, mean=_DLIB_MEAN, std=_DLIB_STD)),
    "dlib_gender": (DlibGender, Input(name="images", width=32, height=32, mean=_DLIB_MEAN, std=_DLIB_STD)),
    "insightface_genderage": (InsightFaceGenderAge, Input(name="data", width=96, height=96)),
    "keras_mask": (
        KerasMask,
        Input(name="image", width=224, height=224, layout="nhwc", mean=(127.5,) * 3, std=(127.5,) * 3),
    ),
}
"""The class of each family, and the input of manifests that define none."""


def build_attribute_reader(manifest: Manifest) -> AttributeReader:
    """The reader for `manifest`'s family. Raises ManifestInvalid for other families and if the input is not square."""
    if manifest.family not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise ManifestInvalid(
            f"{manifest.name}: {manifest.family!r} is not an attribute family; known families: {known}"
        )
    kind, usual = _FAMILIES[manifest.family]
    spec = manifest.input or usual
    if not spec.height or spec.height != spec.width:
        raise ManifestInvalid(f"{manifest.name}: [input] needs equal width and height, in pixels")
    return kind(manifest.name, spec)
