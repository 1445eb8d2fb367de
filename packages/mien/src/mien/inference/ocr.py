"""The service `ocr`: the text in images (`ocr_v1`). Available if the extra `mien[ocr]` is installed."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Handler, Operation, Partial, Report
from mien.engine.sources import Item
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.images import IMAGE_MIMES, ImageLimits
from mien.inference.operation_runner import ItemResult, OperationRunner, milliseconds
from mien.inference.registry import task_of
from mien.inference.results import OcrLine, OcrV1
from mien.vision.text_lines import LineReader, ReadOptions, TextLine

SCHEMA = "ocr_v1"
RECOGNITION, BOX, UNCLIP, TURNED = KEYS = (
    "recognition_threshold",
    "ocr.box_thresh",
    "ocr.unclip_ratio",
    "use_angle_cls",
)


def read_options(given: Mapping[str, str]) -> ReadOptions:
    """The options in a request's metadata. Raises InvalidField naming the key."""
    usual = ReadOptions()
    return ReadOptions(
        recognition_threshold=metadata.number(given, RECOGNITION, usual.recognition_threshold, low=0, high=1),
        box_threshold=metadata.number(given, BOX, usual.box_threshold, low=0, high=1),
        unclip_ratio=metadata.number(given, UNCLIP, usual.unclip_ratio, low=1, high=5),
        turned=metadata.flag(given, TURNED, default=usual.turned),
    )


@dataclass(frozen=True, slots=True)
class ReadLines(Operation["FoundLines"]):
    """Read the text in an image."""

    options: ReadOptions


@dataclass(frozen=True, slots=True)
class FoundLines:
    """The text in an image."""

    lines: tuple[TextLine, ...]
    seconds: float
    """Including decoding."""


class LineFinder(Handler):
    """Handles ReadLines."""

    def __init__(self, reader: LineReader, limits: ImageLimits) -> None:
        self._reader = reader
        self._limits = limits

    def work(self, item: Item, operation: ReadLines, scope: CancelScope, report: Report | None) -> FoundLines:
        started = time.perf_counter()
        lines = self._reader.read(self._limits.decode(item), operation.options)
        return FoundLines(tuple(lines), time.perf_counter() - started)


class OcrService:
    """Lines of text and their positions."""

    name = "ocr"

    def __init__(self, runner: OperationRunner, limits: ImageLimits, model: str, *, strict: bool) -> None:
        """`model`: its name in results. `strict`: reject unknown metadata keys."""
        self._runner = runner
        self._model = model
        self._strict = strict
        out = (f"application/json;schema={SCHEMA}",)
        self._task = TaskInfo("ocr", IMAGE_MIMES, out, model, ("ocr_v1", "text_recognition"), limits.advertised())

    def tasks(self) -> Sequence[TaskInfo]:
        return (self._task,)

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        if self._strict:
            metadata.check_known(request.metadata, KEYS)
        operation = ReadLines(read_options(request.metadata))
        return self._runner.results(SCHEMA, request, scope, operation, self._to_result, stream=stream)

    def _to_result(self, event: Partial[FoundLines] | Done[FoundLines]) -> ItemResult:
        found = event.value
        items: list[OcrLine] = [
            {"box": np.ascontiguousarray(line.box), "text": line.text, "confidence": line.confidence}
            for line in found.lines
        ]
        meta = {"count": str(len(items)), "duration_ms": milliseconds(found.seconds), "lumen.model.id": self._model}
        value: OcrV1 = {"items": items, "count": len(items), "model_id": self._model}
        return ItemResult(value, meta)
