"""Everything that crosses the engine's interface can be sent to another process: it survives pickling unchanged."""

import pickle
from typing import Any

import numpy as np
import pytest

from mien.engine.engine import Done, Failed, Partial
from mien.engine.sources import Base64, Item, Remote
from mien.errors import ModelUnavailable
from mien.faces.pipeline import Face, FaceAnalysis, FaceOptions
from mien.faces.service import DrawFaces, Drawing, FindFaces, FoundFaces
from mien.inference.classification import BestClasses, Classify
from mien.inference.embedding import Embed, Embedded
from mien.inference.ocr import FoundLines, ReadLines
from mien.vision.text_lines import ReadOptions, TextLine

OPTIONS = FaceOptions(threshold=0.5, attributes=True)


@pytest.mark.parametrize(
    "value",
    [
        FindFaces(OPTIONS),
        DrawFaces(OPTIONS, "yunet"),
        Embed("embed"),
        Classify(5),
        ReadLines(ReadOptions()),
        Item(b"bytes", "image/png"),
        Base64("QUJD"),
        Remote("http://example.org/a.jpg", {"Authorization": "x"}),
        Partial(0, Drawing(b"jpeg", 2), 0, 2),
    ],
)
def test_operations_and_sources_are_plain(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - what was dumped here


VECTOR = np.arange(4, dtype=np.float32)
FACE = Face(0, VECTOR, 0.9, np.zeros((5, 2), np.float32), VECTOR, 1.5)


@pytest.mark.parametrize(
    "value",
    [
        FoundFaces(FaceAnalysis((FACE,), 10, 20), 0.1, 0.2),
        BestClasses(("cat",), VECTOR, "m", 0.1),
        Embedded(VECTOR, "model", 0.1),
        FoundLines((TextLine(np.zeros((4, 2), np.int32), "words", 0.5),), 0.1),
    ],
)
def test_values_are_plain(value: Any) -> None:
    (back,) = [pickle.loads(pickle.dumps(event)).value for event in [Done(0, value, 0.1)]]  # noqa: S301
    assert repr(back) == repr(value)


def test_errors_keep_their_messages() -> None:
    error = ModelUnavailable("not here", retry_after=5.0)
    failed = pickle.loads(pickle.dumps(Failed(3, error)))  # noqa: S301
    assert (failed.index, type(failed.error)) == (3, ModelUnavailable)
    assert (failed.error.message, failed.error.retry_after) == ("not here", 5.0)
