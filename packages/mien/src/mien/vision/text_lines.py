"""Lines of text in an image, by RapidOCR's PP-OCR models (the extra `mien[ocr]` installs both)."""

import importlib
import importlib.util
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.vision.types import Image


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line."""

    box: NDArray[np.int32]
    """[4, 2] x, y in pixels of the image: top left, top right, bottom right, bottom left, as the text runs."""
    text: str
    confidence: float
    """0..1"""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How sure to be; the defaults are RapidOCR's."""

    recognition_threshold: float = 0.5
    """Least confidence of a line."""
    box_threshold: float = 0.5
    """Least score of a text region."""
    unclip_ratio: float = 1.6
    """How far regions are widened."""
    turned: bool = True
    """Also read lines that are upside down."""


class LineReader(Protocol):
    """Reads lines of text; thread-safe."""

    @property
    def name(self) -> str:
        """The model's name in results."""
        ...

    def read(self, image: Image, options: ReadOptions) -> Sequence[TextLine]:
        """The image's lines in reading order. Blocks."""
        ...


def is_installed() -> bool:
    """Whether RapidOCR can be imported."""
    return importlib.util.find_spec("rapidocr") is not None


class RapidOcr:
    """RapidOCR with the models in its wheel. Each reader keeps its options to itself, so each does one image at a time;
    `readers` of them work side by side, one thread each.
    """

    name = "pp-ocrv6-small"

    def __init__(self, readers: int) -> None:
        engine = importlib.import_module("rapidocr").RapidOCR
        params = {
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        self._readers: queue.LifoQueue[Any] = queue.LifoQueue()  # the warm ones are used first
        for _ in range(readers):
            self._readers.put(engine(params=params))
        self.read(np.full((64, 256, 3), 255, np.uint8), ReadOptions())

    def read(self, image: Image, options: ReadOptions) -> list[TextLine]:
        reader = self._readers.get()
        try:
            found = reader(
                image,
                use_cls=options.turned,
                text_score=options.recognition_threshold,
                box_thresh=options.box_threshold,
                unclip_ratio=options.unclip_ratio,
            )
        finally:
            self._readers.put(reader)
        if found.boxes is None or found.txts is None:
            return []
        height, width = image.shape[:2]
        boxes = np.clip(np.rint(found.boxes), 0, [width, height]).astype(np.int32)
        return [
            TextLine(box, text, min(1.0, max(0.0, float(score))))
            for box, text, score in zip(boxes, found.txts, found.scores, strict=True)
        ]
