"""The service `embedding`: images and texts as vectors (`embedding_v1`)."""

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Handler, Operation, Partial, Report, Work
from mien.engine.sources import Item, Source
from mien.inference import metadata
from mien.inference.clip import ClipModel, unit_vector
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.image_model import EMBEDDING, ImageModel
from mien.inference.images import IMAGE_MIMES, ImageLimits, payload_refused
from mien.inference.operation_runner import ItemResult, OperationRunner, milliseconds
from mien.inference.registry import task_of
from mien.inference.results import EmbeddingV1
from mien.inference.slots import Slot, held, settled
from mien.inference.text_model import MAX_TOKENS, TextModel, TextVector
from mien.vision.types import Array
from mien.zoo.on_demand import OnDemand

SCHEMA = "embedding_v1"
TEXT_MIMES = ("text/plain", "text/markdown", "text/html")
EITHER, IMAGE, TEXT = "embed", "semantic_image_embed", "semantic_text_embed"
"""With a CLIP, these mean it, and so do their aliases."""
PLAIN_IMAGE, PLAIN_TEXT = "image_embed", "text_embed"
"""Always the image model and the text model, where there are some: a CLIP makes tasks of their own of these names."""
EITHER_ALIASES = ("lumen_clip_embed", "clip_embed", "lumen_embed")
IMAGE_ALIASES = ("clip_image_embed", "bioclip_image_embed", "smartclip_image_embed", PLAIN_IMAGE)
TEXT_ALIASES = ("clip_text_embed", "bioclip_text_embed", "smartclip_text_embed", PLAIN_TEXT)
_IMAGES_ONLY, _TEXTS_ONLY = (IMAGE, PLAIN_IMAGE), (TEXT, PLAIN_TEXT)


@dataclass(frozen=True, slots=True)
class Embed(Operation["Embedded"]):
    """Turn an image or a text into a vector."""

    task: str
    """The requested task of the service, which determines the accepted payloads."""
    clip: bool = False
    """Whether it means the CLIP."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """An embedding and the model it comes from."""

    vector: Array
    """[D] float32, length 1."""
    model: str
    seconds: float
    """Including decoding."""
    text: TextVector | None = None
    """Details, if the payload is a text."""


@dataclass(frozen=True, slots=True)
class EmbeddingModels:
    """Where the models of this service are."""

    image: Slot[ImageModel]
    text: Slot[TextModel]
    clip: Slot[ClipModel]

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return any(slot.active for slot in (self.image, self.text, self.clip))

    def chosen(self, operation: Embed) -> "_Chosen":
        """The models that a request uses, also if one was unloaded since it was offered: that one says so."""
        if operation.clip:
            return _Chosen(None, None, self.clip.current)
        return _Chosen(self.image.current, self.text.current, None)


@dataclass(frozen=True, slots=True)
class _Chosen:
    image: OnDemand[ImageModel] | None
    text: OnDemand[TextModel] | None
    clip: OnDemand[ClipModel] | None

    def needed(self, sources: Sequence[Source]) -> Sequence[OnDemand[Any]]:
        """Those that the payloads need."""
        kinds = {source.mime.partition("/")[0] for source in sources if isinstance(source, Item)}
        image, text = self.image if "image" in kinds else None, self.text if "text" in kinds else None
        return [model for model in (self.clip, image, text) if model is not None]


class Embedder(Handler):
    """Handles Embed."""

    def __init__(self, models: EmbeddingModels, limits: ImageLimits) -> None:
        self._models = models
        self._limits = limits

    async def prepare(self, operation: Embed, sources: Sequence[Source]) -> None:
        """Wait for the models that the payloads need. If one stays missing, `get` raises the reason for each item."""
        await settled(self._models.chosen(operation).needed(sources))

    @contextmanager
    def begin(self, operation: Embed, sources: Sequence[Source]) -> Iterator[Work]:
        chosen = self._models.chosen(operation)
        with held(chosen.needed(sources)):
            yield partial(self._embed, chosen)

    def work(self, item: Item, operation: Embed, scope: CancelScope, report: Report | None) -> Embedded:
        return self._embed(self._models.chosen(operation), item, operation, scope, report)

    def _embed(
        self, models: _Chosen, item: Item, operation: Embed, scope: CancelScope, report: Report | None
    ) -> Embedded:
        started = time.perf_counter()
        is_text = item.mime.startswith("text/")
        if operation.task in _TEXTS_ONLY and not is_text:
            raise payload_refused(f"the task {operation.task} expects UTF-8 text; got {item.mime}")
        if operation.task in _IMAGES_ONLY and is_text:
            raise payload_refused(f"the task {operation.task} expects an image; got {item.mime}")
        if is_text:
            return self._of_text(models, item, scope, started)
        if item.mime.startswith("image/"):
            return self._of_image(models, item, scope, started)
        raise payload_refused(f"expected an image or UTF-8 text; got {item.mime}")

    def _of_image(self, models: _Chosen, item: Item, scope: CancelScope, started: float) -> Embedded:
        if models.clip is not None:
            name, vector = models.clip.name, models.clip.get().embed_image(self._limits.decode(item), scope)
        elif models.image is not None:
            name = models.image.name
            vector = unit_vector(models.image.get().run(self._limits.decode(item), scope)[EMBEDDING], name)
        else:
            raise payload_refused("this server has no model for images (MIEN_IMAGE_MODEL); it embeds texts only")
        return Embedded(vector, name, time.perf_counter() - started)

    def _of_text(self, models: _Chosen, item: Item, scope: CancelScope, started: float) -> Embedded:
        if models.clip is not None:
            name, found = models.clip.name, models.clip.get().embed_text(_decoded(item), scope)
        elif models.text is not None:
            name, found = models.text.name, models.text.get().embed(_decoded(item), scope)
        else:
            raise payload_refused("this server has no model for texts (MIEN_TEXT_MODEL); it embeds images only")
        return Embedded(found.vector, name, time.perf_counter() - started, found)


def _decoded(item: Item) -> str:
    try:
        return item.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise payload_refused(f"expected UTF-8 text; byte {error.start} is invalid") from None


class EmbeddingService:
    """Embeddings of images and texts: of one space with a CLIP; without one, of two models that are not comparable."""

    name = "embedding"

    def __init__(self, runner: OperationRunner, limits: ImageLimits, models: EmbeddingModels, *, strict: bool) -> None:
        """Offers what the models, of which there is at least one, make possible now; a change of models needs a new
        service. `strict`: reject unknown metadata keys.
        """
        self._runner = runner
        self._strict = strict
        self._has_clip = models.clip.active is not None
        self._tasks = tuple(_offered(models, limits.advertised()))

    def tasks(self) -> Sequence[TaskInfo]:
        return self._tasks

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task = task_of(self, request.task).name
        if self._strict:
            metadata.check_known(request.metadata, ())
        operation = Embed(task, clip=self._has_clip and task not in (PLAIN_IMAGE, PLAIN_TEXT))
        return self._runner.results(SCHEMA, request, scope, operation, _to_result, stream=stream)


def _offered(models: EmbeddingModels, limits: Mapping[str, str]) -> Sequence[TaskInfo]:
    out = (f"application/json;schema={SCHEMA}",)
    clip, image, text = models.clip.active, models.image.active, models.text.active
    text_limits = {"max_items": limits["max_items"], "max_tokens": str(MAX_TOKENS)}
    plain = [
        *([TaskInfo(PLAIN_IMAGE, IMAGE_MIMES, out, image.name, (), limits)] if image else []),
        *([TaskInfo(PLAIN_TEXT, TEXT_MIMES, out, text.name, (), text_limits)] if text else []),
    ]
    own = plain if clip else []
    taken = {info.name for info in own}
    image_names = tuple(name for name in IMAGE_ALIASES if name not in taken)
    text_names = tuple(name for name in TEXT_ALIASES if name not in taken)
    images, texts = clip or image, clip or text
    if clip is not None:
        text_limits = {"max_items": limits["max_items"]}
        if clip.is_here:
            text_limits["max_tokens"] = str(clip.get().max_tokens)
    single = [
        *([TaskInfo(IMAGE, IMAGE_MIMES, out, images.name, image_names, limits)] if images else []),
        *([TaskInfo(TEXT, TEXT_MIMES, out, texts.name, text_names, text_limits)] if texts else []),
    ]
    mimes = tuple(mime for info in single for mime in info.input_mimes)
    model = single[0].model if len({info.model for info in single}) == 1 else ""
    either = TaskInfo(EITHER, mimes, out, model, EITHER_ALIASES, limits if images else text_limits)
    return [either, *single, *own]


def _to_result(event: Partial[Embedded] | Done[Embedded]) -> ItemResult:
    found = event.value
    meta = {
        "dim": str(len(found.vector)),
        "processing_time_ms": milliseconds(found.seconds),
        "lumen.model.id": found.model,
    }
    if found.text is not None:
        meta |= {"tokens": str(found.text.tokens), "truncated": str(found.text.truncated).lower()}
    value: EmbeddingV1 = {"vector": found.vector, "dim": len(found.vector), "model_id": found.model}
    return ItemResult(value, meta)
