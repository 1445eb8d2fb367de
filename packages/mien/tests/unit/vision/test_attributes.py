"""Age, gender and mask readers."""

import numpy as np
import pytest

from mien.errors import ManifestInvalid, ModelError
from mien.vision.align import ARCFACE_TEMPLATE
from mien.vision.attributes import FEMALE, MALE, AttributeReader, build_attribute_reader
from mien.zoo.manifest import Manifest, Source

BOX = np.array([0, 0, 112, 112], np.float32)


def reader(family: str) -> AttributeReader:
    return build_attribute_reader(
        Manifest(
            name=family,
            task="age",
            family=family,
            title="",
            licence="",
            credit="",  # type: ignore[arg-type]
            source=Source(kind="file"),
        )
    )


def says(family: str, values: list[float]) -> object:
    return reader(family).decode({"out": np.array(values, np.float32)})


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("dlib_age", (3, 64, 64)),
        ("dlib_gender", (3, 32, 32)),
        ("insightface_genderage", (3, 96, 96)),
        ("keras_mask", (224, 224, 3)),
    ],
)
def test_a_face_becomes_the_models_input(family: str, shape: tuple[int, ...]) -> None:
    one = reader(family)
    image = np.full((112, 112, 3), 255, np.uint8)
    tensor = one.prepare(one.crop(image, BOX, ARCFACE_TEMPLATE))
    assert (tensor.shape, tensor.dtype) == (shape, np.float32)


def test_dlib_ages_are_the_mean_of_the_distribution() -> None:
    certain = [0.0] * 81
    certain[30] = 1.0
    assert says("dlib_age", certain).age == 30  # type: ignore[attr-defined]
    baby = [1.0] + [0.0] * 80
    assert says("dlib_age", baby).age == 0.25  # type: ignore[attr-defined]


def test_genders_are_numbered_as_insightface_does() -> None:
    assert (FEMALE, MALE) == (0, 1)
    assert says("dlib_gender", [0.1, 0.9]).gender == MALE  # type: ignore[attr-defined]
    assert says("insightface_genderage", [2, -2, 0.31]).gender == FEMALE  # type: ignore[attr-defined]


def test_insightface_ages_are_in_centuries() -> None:
    found = says("insightface_genderage", [-200, 200, 0.31])
    assert found.age == pytest.approx(31, abs=1e-4)  # type: ignore[attr-defined]
    assert found.gender_score == 1  # type: ignore[attr-defined]


def test_the_likelier_of_mask_and_none_counts() -> None:
    assert says("keras_mask", [0.9, 0.1]).mask is True  # type: ignore[attr-defined]
    assert says("keras_mask", [0.25, 0.75]).mask_probs == (0.25, 0.75)  # type: ignore[attr-defined]


def test_outputs_of_another_model_are_an_error() -> None:
    with pytest.raises(ModelError, match="5 numbers, expected 2"):
        says("keras_mask", [0.0] * 5)


def test_other_families_are_rejected_as_attribute_readers() -> None:
    with pytest.raises(ManifestInvalid, match="yunet"):
        reader("yunet")
