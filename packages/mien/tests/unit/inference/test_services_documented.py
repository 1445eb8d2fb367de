"""docs/services.md names every task, alias and metadata key."""

from pathlib import Path

import pytest

from mien.faces.face_v1 import DETECTION_ALIASES, FACE_KEYS, RECOGNITION_ALIASES
from mien.inference import classification, embedding, metadata, ocr

TEXT = (Path(__file__).parents[5] / "docs" / "services.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *DETECTION_ALIASES,
        *RECOGNITION_ALIASES,
        *embedding.EITHER_ALIASES,
        *embedding.IMAGE_ALIASES,
        *embedding.TEXT_ALIASES,
        *classification.ALIASES,
        embedding.EITHER,
        embedding.IMAGE,
        embedding.TEXT,
        *FACE_KEYS,
        *metadata.TOP_K_KEYS,
        *ocr.KEYS,
    ],
)
def test_the_name_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT
