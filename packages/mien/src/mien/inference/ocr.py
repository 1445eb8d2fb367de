"""The service `ocr`: the text in images (`ocr_v1`). Exists where the extra `mien[ocr]` is installed."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np

from mien.engine.call import Call
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.images import IMAGE_MIMES, decoded, image_limits
from mien.inference.items import Answer, ItemWorkers, Tell, milliseconds, to_json
from mien.inference.registry import task_of
from mien.vision.text_lines import LineReader, ReadOptions

SCHEMA = "ocr_v1"
RECOGNITION, BOX, UNCLIP, TURNED = KEYS = (
    "recognition_threshold",
    "ocr.box_thresh",
    "ocr.unclip_ratio",
    "use_angle_cls",
)


def read_options(given: Mapping[str, str]) -> ReadOptions:
    """The four keys as options. Raises InvalidField that names the key."""
    usual = ReadOptions()
    return ReadOptions(
        recognition_threshold=metadata.number(given, RECOGNITION, usual.recognition_threshold, low=0, high=1),
        box_threshold=metadata.number(given, BOX, usual.box_threshold, low=0, high=1),
        unclip_ratio=metadata.number(given, UNCLIP, usual.unclip_ratio, low=1, high=5),
        turned=metadata.flag(given, TURNED, default=usual.turned),
    )


class OcrService:
    """Lines of text with where they stand."""

    name = "ocr"

    def __init__(self, workers: ItemWorkers, reader: LineReader) -> None:
        self._workers = workers
        self._reader = reader
        out = (f"application/json;schema={SCHEMA}",)
        limits = image_limits(workers.limits)
        self._task = TaskInfo("ocr", IMAGE_MIMES, out, reader.name, ("ocr_v1", "text_recognition"), limits)

    def tasks(self) -> Sequence[TaskInfo]:
        return (self._task,)

    def infer(self, request: InferRequest, call: Call, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        if self._workers.api.strict_metadata:
            metadata.check_known(request.metadata, KEYS)
        options = read_options(request.metadata)

        def work(item: Item, _tell: Tell | None) -> Answer:
            return self._read(item, options)

        return self._workers.answers(SCHEMA, request, call, work, stream=stream)

    def _read(self, item: Item, options: ReadOptions) -> Answer:
        started = time.perf_counter()
        lines = self._reader.read(decoded(item, self._workers.limits), options)
        items = [
            {"box": np.ascontiguousarray(line.box), "text": line.text, "confidence": line.confidence} for line in lines
        ]
        meta = {
            "count": str(len(items)),
            "duration_ms": milliseconds(time.perf_counter() - started),
            "lumen.model.id": self._reader.name,
        }
        return Answer(to_json({"items": items, "count": len(items), "model_id": self._reader.name}), meta)
