"""The service `classification`: what an image shows, by ImageNet's 1000 classes (`labels_v1`)."""

import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec

from mien.engine.call import Call
from mien.errors import ModelError
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.image_model import PROBABILITIES, ImageModel
from mien.inference.images import IMAGE_MIMES, decoded, image_limits
from mien.inference.items import Answer, ItemWorkers, Tell, milliseconds, to_json
from mien.inference.registry import task_of
from mien.vision.imagenet import best_classes
from mien.zoo.on_demand import OnDemand

SCHEMA = "labels_v1"
DEFAULT_TOP_K = 5
CLASSES = 1000  # of ImageNet: said as long as the names are not here to be counted
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
    """Class names in the order of the model's outputs: a JSON list. Raises ModelError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise ModelError(f"{path.name}: no list of class names: {error}") from error


class ClassificationService:
    """The likeliest classes of images, best first."""

    name = "classification"

    def __init__(self, workers: ItemWorkers, image: OnDemand[ImageModel]) -> None:
        self._workers = workers
        self._image = image

    def tasks(self) -> Sequence[TaskInfo]:
        limits = {**image_limits(self._workers.limits), "max_top_k": str(self._classes())}
        out = (f"application/json;schema={SCHEMA}",)
        return (TaskInfo("image_classify", IMAGE_MIMES, out, self._image.name, ALIASES, limits),)

    def _classes(self) -> int:
        return len(self._image.get().labels) if self._image.is_here else CLASSES

    def infer(self, request: InferRequest, call: Call, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        if self._workers.api.strict_metadata:
            metadata.check_known(request.metadata, metadata.TOP_K_KEYS)
        wanted = metadata.top_k(request.metadata, DEFAULT_TOP_K, self._classes())

        def work(item: Item, _tell: Tell | None) -> Answer:
            return self._classify(item, wanted, call)

        return self._workers.answers(SCHEMA, request, call, work, stream=stream, needs=(self._image,))

    def _classify(self, item: Item, wanted: int, call: Call) -> Answer:
        started = time.perf_counter()
        image = self._image.get()
        probabilities = image.run(decoded(item, self._workers.limits), call)[PROBABILITIES]
        if len(probabilities) != len(image.labels):
            raise ModelError(f"{image.name}: {len(probabilities)} classes for {len(image.labels)} names")
        classes, scores = best_classes(probabilities, wanted)
        labels = [{"label": image.labels[i], "score": score} for i, score in zip(classes, scores, strict=True)]
        meta = {
            "top_k": str(len(labels)),
            "processing_time_ms": milliseconds(time.perf_counter() - started),
            "lumen.model.id": image.name,
        }
        return Answer(to_json({"labels": labels, "model_id": image.name}), meta)
