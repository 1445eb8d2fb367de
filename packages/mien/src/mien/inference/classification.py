"""The service `classification`: an image's likeliest of the 1000 ImageNet classes (`labels_v1`)."""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Handler, Operation, Partial, Report
from mien.engine.sources import Item, Source
from mien.errors import ModelError
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.image_model import PROBABILITIES, ImageModel
from mien.inference.images import IMAGE_MIMES, ImageLimits
from mien.inference.operation_runner import ItemResult, OperationRunner, milliseconds
from mien.inference.registry import task_of
from mien.inference.results import Label, LabelsV1
from mien.vision.imagenet import best_classes
from mien.vision.types import Array
from mien.zoo.on_demand import OnDemand

SCHEMA = "labels_v1"
DEFAULT_TOP_K = 5
CLASSES = 1000  # of ImageNet: advertised until the class names are loaded and can be counted
ALIASES = (
    "clip_classify",
    "bioclip_classify",
    "smartclip_classify",
    "smartclip_bioclassify",
    "lumen_clip_classify",
    "imagenet_classify",
    "classify",
)


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names from a JSON list, in the order of the model's outputs. Raises ModelError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise ModelError(f"{path.name}: not a list of class names: {error}") from error


@dataclass(frozen=True, slots=True)
class Classify(Operation["BestClasses"]):
    """Classify an image."""

    count: int
    """Number of classes to return."""


@dataclass(frozen=True, slots=True)
class BestClasses:
    """The likeliest classes of an image, best first."""

    labels: tuple[str, ...]
    scores: Array
    """[N] float32 in 0..1."""
    seconds: float
    """Including decoding."""


class Classifier(Handler):
    """Handles Classify."""

    def __init__(self, image: OnDemand[ImageModel], limits: ImageLimits) -> None:
        self._image = image
        self._limits = limits

    async def prepare(self, operation: Classify, sources: Sequence[Source]) -> None:
        await self._image.settle()  # if it is still missing, `get` raises the reason for each item

    def work(self, item: Item, operation: Classify, scope: CancelScope, report: Report | None) -> BestClasses:
        started = time.perf_counter()
        image = self._image.get()
        probabilities = image.run(self._limits.decode(item), scope)[PROBABILITIES]
        if len(probabilities) != len(image.labels):
            raise ModelError(f"{image.name}: {len(probabilities)} classes for {len(image.labels)} names")
        classes, scores = best_classes(probabilities, operation.count)
        return BestClasses(tuple(image.labels[i] for i in classes), scores, time.perf_counter() - started)


class ClassificationService:
    """The likeliest classes of images, best first."""

    name = "classification"

    def __init__(
        self, runner: OperationRunner, limits: ImageLimits, image: OnDemand[ImageModel], *, strict: bool
    ) -> None:
        """`strict`: reject unknown metadata keys."""
        self._runner = runner
        self._limits = limits
        self._image = image
        self._strict = strict

    def tasks(self) -> Sequence[TaskInfo]:
        limits = {**self._limits.advertised(), "max_top_k": str(self._classes())}
        out = (f"application/json;schema={SCHEMA}",)
        return (TaskInfo("image_classify", IMAGE_MIMES, out, self._image.name, ALIASES, limits),)

    def _classes(self) -> int:
        return len(self._image.get().labels) if self._image.is_here else CLASSES

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        if self._strict:
            metadata.check_known(request.metadata, metadata.TOP_K_KEYS)
        operation = Classify(metadata.top_k(request.metadata, DEFAULT_TOP_K, self._classes()))
        return self._runner.results(SCHEMA, request, scope, operation, self._to_result, stream=stream)

    def _to_result(self, event: Partial[BestClasses] | Done[BestClasses]) -> ItemResult:
        best = event.value
        labels: list[Label] = [
            {"label": label, "score": score} for label, score in zip(best.labels, best.scores, strict=True)
        ]
        meta = {
            "top_k": str(len(labels)),
            "processing_time_ms": milliseconds(best.seconds),
            "lumen.model.id": self._image.name,
        }
        value: LabelsV1 = {"labels": labels, "model_id": self._image.name}
        return ItemResult(value, meta)
