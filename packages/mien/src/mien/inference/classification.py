"""The service `classification`: an image's likeliest classes, of ImageNet or, with a CLIP, any (`labels_v1`)."""

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Handler, Operation, Partial, Report, Work
from mien.engine.sources import Item, Source
from mien.errors import InvalidField, ModelError, ModelUnavailable
from mien.inference import metadata
from mien.inference.clip import ClipModel
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.image_model import PROBABILITIES, ImageModel
from mien.inference.images import IMAGE_MIMES, ImageLimits
from mien.inference.operation_runner import ItemResult, OperationRunner, milliseconds
from mien.inference.registry import task_of
from mien.inference.results import Label, LabelsV1
from mien.inference.slots import Slot, held, settled
from mien.vision.imagenet import best_classes
from mien.vision.types import Array
from mien.zoo.on_demand import OnDemand

SCHEMA = "labels_v1"
DEFAULT_TOP_K = 5
CLASSES = 1000  # of ImageNet: advertised until the class names are loaded and can be counted
CLASSIFY, ZERO_SHOT = "image_classify", "zero_shot_classify"
LABELS, TEMPLATE = "labels", "template"
KEYS = (*metadata.TOP_K_KEYS, LABELS, TEMPLATE)
DEFAULT_TEMPLATE = "a photo of a {}"
MAX_LABELS = 256
MAX_CHARACTERS = 500
"""Of a label, and of a template, which is repeated for each label: together they bound the memory of prompts."""
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
    labels: tuple[str, ...] = ()
    """What it may be; empty: the classes of the image model."""
    template: str = DEFAULT_TEMPLATE
    """The text that a CLIP compares the image with: `{}` stands for the label."""


@dataclass(frozen=True, slots=True)
class BestClasses:
    """The likeliest classes of an image, best first."""

    labels: tuple[str, ...]
    scores: Array
    """[N] float32 in 0..1."""
    model: str
    seconds: float
    """Including decoding."""


class Classifier(Handler):
    """Handles Classify."""

    def __init__(self, image: Slot[ImageModel], clip: Slot[ClipModel], limits: ImageLimits) -> None:
        self._image = image
        self._clip = clip
        self._limits = limits

    async def prepare(self, operation: Classify, sources: Sequence[Source]) -> None:
        await settled([self._chosen(operation)])  # if it is still missing, `get` raises the reason for each item

    @contextmanager
    def begin(self, operation: Classify, sources: Sequence[Source]) -> Iterator[Work]:
        chosen = self._chosen(operation)
        with held([chosen]):
            yield partial(self._classify, chosen)

    def work(self, item: Item, operation: Classify, scope: CancelScope, report: Report | None) -> BestClasses:
        return self._classify(self._chosen(operation), item, operation, scope, report)

    def _chosen(self, operation: Classify) -> OnDemand[ImageModel] | OnDemand[ClipModel]:
        found = self._clip.current if operation.labels else self._image.current
        if found is None:
            raise _no_clip() if operation.labels else _labels_needed()
        return found

    def _classify(
        self,
        chosen: OnDemand[ImageModel] | OnDemand[ClipModel],
        item: Item,
        operation: Classify,
        scope: CancelScope,
        report: Report | None,
    ) -> BestClasses:
        started = time.perf_counter()
        model = chosen.get()
        image = self._limits.decode(item)
        if isinstance(model, ClipModel):
            labels = operation.labels
            prompts = [operation.template.replace("{}", label) for label in labels]
            scores = model.scores(image, prompts, scope)
        else:
            labels, scores = model.labels, model.run(image, scope)[PROBABILITIES]
            if len(scores) != len(labels):
                raise ModelError(f"{model.name}: {len(scores)} classes for {len(labels)} names")
        classes, best = best_classes(scores, operation.count)
        return BestClasses(tuple(labels[i] for i in classes), best, chosen.name, time.perf_counter() - started)


class ClassificationService:
    """The likeliest classes of images, best first."""

    name = "classification"

    def __init__(
        self,
        runner: OperationRunner,
        limits: ImageLimits,
        image: Slot[ImageModel],
        clip: Slot[ClipModel],
        *,
        strict: bool,
    ) -> None:
        """At least one of the two is there. `strict`: reject unknown metadata keys."""
        self._runner = runner
        self._limits = limits
        self._image = image.active
        self._clip = clip.active
        self._strict = strict

    def tasks(self) -> Sequence[TaskInfo]:
        limits = {**self._limits.advertised(), "max_top_k": str(self._classes())}
        labels = {**self._limits.advertised(), "max_labels": str(MAX_LABELS)}
        out = (f"application/json;schema={SCHEMA}",)
        zero_shot = [TaskInfo(ZERO_SHOT, IMAGE_MIMES, out, self._clip.name, (), labels)] if self._clip else []
        if self._image is None:
            model = self._clip.name if self._clip else ""
            return (TaskInfo(CLASSIFY, IMAGE_MIMES, out, model, ALIASES, labels), *zero_shot)
        return (TaskInfo(CLASSIFY, IMAGE_MIMES, out, self._image.name, ALIASES, limits), *zero_shot)

    def _classes(self) -> int:
        return len(self._image.get().labels) if self._image is not None and self._image.is_here else CLASSES

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task = task_of(self, request.task)
        if self._strict:
            metadata.check_known(request.metadata, KEYS)
        labels = labels_of(request.metadata)
        if not labels and (task.name == ZERO_SHOT or self._image is None):
            raise _labels_needed()
        if labels and self._clip is None:
            raise _no_clip()
        most = len(labels) or self._classes()
        count = metadata.top_k(request.metadata, most if labels else DEFAULT_TOP_K, most)
        operation = Classify(count, labels, template_of(request.metadata))
        return self._runner.results(SCHEMA, request, scope, operation, _to_result, stream=stream)


def labels_of(given: Mapping[str, str]) -> tuple[str, ...]:
    """The labels of a request, each once: a JSON list of strings, or names between commas. Raises InvalidField."""
    text = metadata.given(given, LABELS)
    if not text:
        return ()
    if text.startswith("["):
        try:
            names = msgspec.json.decode(text, type=list[str])
        except msgspec.DecodeError:
            metadata.refuse(LABELS, "expected a JSON list of strings, or names separated by commas")
    else:
        names = text.split(",")
    labels = tuple(dict.fromkeys(name.strip() for name in names))
    if "" in labels:
        metadata.refuse(LABELS, "expected names; one of them is blank")
    if len(labels) > MAX_LABELS:
        metadata.refuse(LABELS, f"expected at most {MAX_LABELS} labels; got {len(labels)}")
    if (longest := max(map(len, labels))) > MAX_CHARACTERS:
        metadata.refuse(LABELS, f"expected labels of at most {MAX_CHARACTERS} characters; one has {longest}")
    return labels


def template_of(given: Mapping[str, str]) -> str:
    """The text around a label. Raises InvalidField if it has not exactly one place for it, or is too long."""
    template = metadata.given(given, TEMPLATE) or DEFAULT_TEMPLATE
    if template.count("{}") != 1:
        metadata.refuse(TEMPLATE, f"expected a text with {{}} once, where the label goes; got {template[:40]!r}")
    if len(template) > MAX_CHARACTERS:
        metadata.refuse(TEMPLATE, f"expected at most {MAX_CHARACTERS} characters; got {len(template)}")
    return template


def _labels_needed() -> InvalidField:
    message = "metadata labels: expected what the image may show, for example `cat, dog`: only a CLIP is loaded"
    return InvalidField(message, ({"type": "metadata", "loc": ["metadata", LABELS], "msg": message},))


def _no_clip() -> ModelUnavailable:
    return ModelUnavailable(
        "labels of a request need a CLIP, which this server has not loaded: `mien models load clip`, or set "
        "MIEN_CLIP_MODEL"
    )


def _to_result(event: Partial[BestClasses] | Done[BestClasses]) -> ItemResult:
    best = event.value
    labels: list[Label] = [
        {"label": label, "score": score} for label, score in zip(best.labels, best.scores, strict=True)
    ]
    meta = {"top_k": str(len(labels)), "processing_time_ms": milliseconds(best.seconds), "lumen.model.id": best.model}
    value: LabelsV1 = {"labels": labels, "model_id": best.model}
    return ItemResult(value, meta)
