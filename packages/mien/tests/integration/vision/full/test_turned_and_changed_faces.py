"""Portraits at every angle, and after changes that nobody sees, are recognised as the portraits that they are."""

from collections.abc import Iterator

import pytest

from benchmarks.recognition import ANGLES, CHANGES, Photo, Recogniser, compared, photos, rotated
from mien.settings import Settings
from mien.vision.types import Array

LEAST_TURNED = 0.6
LEAST_LEANING = 0.75
"""Up to 30°."""
LEAST_CHANGED = 0.95
MOST_OF_OTHERS = 0.25


@pytest.fixture(scope="module")
def portraits() -> list[Photo]:
    return list(photos(None))


@pytest.fixture(scope="module")
def recogniser() -> Iterator[Recogniser]:
    loaded = Recogniser(Settings())
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def known(recogniser: Recogniser, portraits: list[Photo]) -> dict[str, Array]:
    vectors = {photo.name: recogniser.vector(photo.image) for photo in portraits}
    return {name: vector for name, vector in vectors.items() if vector is not None}


@pytest.mark.parametrize("angle", ANGLES)
def test_a_turned_portrait_is_recognised(
    recogniser: Recogniser, known: dict[str, Array], portraits: list[Photo], angle: int
) -> None:
    same, others = compared(recogniser, known, portraits, lambda photo: rotated(photo.image, angle))
    assert min(same) >= (LEAST_LEANING if min(angle, 360 - angle) <= 30 else LEAST_TURNED), same
    assert others < MOST_OF_OTHERS


@pytest.mark.parametrize("change", CHANGES)
def test_what_nobody_sees_changes_little(
    recogniser: Recogniser, known: dict[str, Array], portraits: list[Photo], change: str
) -> None:
    same, others = compared(recogniser, known, portraits, CHANGES[change])
    assert min(same) >= LEAST_CHANGED, same
    assert others < MOST_OF_OTHERS
