"""docs/services.md names every task, alias and metadata key."""

from pathlib import Path

from mien.faces.face_v1 import DETECTION_ALIASES, FACE_KEYS, RECOGNITION_ALIASES
from mien.inference import classification, embedding, metadata, ocr

TEXT = (Path(__file__).parents[5] / "docs" / "services.md").read_text()


NAMES = [
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
]


def test_every_name_is_documented() -> None:
    assert [name for name in NAMES if f"`{name}`" not in TEXT] == []
