"""Text recognition with RapidOCR and its PP-OCR models (the extra `mien[ocr]` installs both)."""

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
    """One line of text."""

    box: NDArray[np.int32]
    """[4, 2] x, y in image pixels: top left, top right, bottom right, bottom left, relative to the text."""
    text: str
    confidence: float
    """0..1"""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Thresholds; the defaults are RapidOCR's."""

    recognition_threshold: float = 0.5
    """Minimum confidence of a line."""
    box_threshold: float = 0.5
    """Minimum score of a text region."""
    unclip_ratio: float = 1.6
    """Factor by which regions are expanded."""
    turned: bool = True
    """Also read lines that are upside down."""


class LineReader(Protocol):
    """Recognises lines of text. Thread-safe."""

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
    """RapidOCR with the models in its wheel. An engine stores the options of a call in itself, so it can process only
    one image at a time; `readers` engines run concurrently, with one thread each.
    """

    name = "pp-ocrv6-small"

    def __init__(self, readers: int) -> None:
        engine = importlib.import_module("rapidocr").RapidOCR
        params = {
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        self._readers: queue.LifoQueue[Any] = queue.LifoQueue()  # LIFO: prefers warm ones
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
