"""The service `embedding`: images and texts as vectors (`embedding_v1`)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Handler, Operation, Partial, Report
from mien.engine.sources import Item, Source
from mien.errors import ModelError
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.image_model import EMBEDDING, ImageModel
from mien.inference.images import IMAGE_MIMES, ImageLimits, payload_refused
from mien.inference.operation_runner import ItemResult, OperationRunner, milliseconds
from mien.inference.registry import task_of
from mien.inference.results import EmbeddingV1
from mien.inference.text_model import MAX_TOKENS, TextModel, TextVector
from mien.vision.types import Array
from mien.zoo.on_demand import OnDemand

SCHEMA = "embedding_v1"
TEXT_MIMES = ("text/plain", "text/markdown", "text/html")
EITHER, IMAGE, TEXT = "embed", "semantic_image_embed", "semantic_text_embed"
EITHER_ALIASES = ("lumen_clip_embed", "clip_embed", "lumen_embed")
IMAGE_ALIASES = ("clip_image_embed", "bioclip_image_embed", "smartclip_image_embed", "image_embed")
TEXT_ALIASES = ("clip_text_embed", "bioclip_text_embed", "smartclip_text_embed", "text_embed")


@dataclass(frozen=True, slots=True)
class Embed(Operation["Embedded"]):
    """Turn an image or a text into a vector."""

    task: str
    """The requested task of the service, which determines the accepted payloads."""


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


class Embedder(Handler):
    """Handles Embed."""

    def __init__(
        self, image: OnDemand[ImageModel] | None, text: OnDemand[TextModel] | None, limits: ImageLimits
    ) -> None:
        """At least one of `image` and `text`."""
        self._image = image
        self._text = text
        self._limits = limits

    async def prepare(self, operation: Embed, sources: Sequence[Source]) -> None:
        """Wait for the models that the payloads need. If one stays missing, `get` raises the reason for each item."""
        kinds = {source.mime.partition("/")[0] for source in sources if isinstance(source, Item)}
        wanted = [model for model, kind in ((self._image, "image"), (self._text, "text")) if model and kind in kinds]
        await asyncio.gather(*(model.settle() for model in wanted))

    def work(self, item: Item, operation: Embed, scope: CancelScope, report: Report | None) -> Embedded:
        started = time.perf_counter()
        is_text = item.mime.startswith("text/")
        if operation.task == TEXT and not is_text:
            raise payload_refused(f"the task {TEXT} expects UTF-8 text; got {item.mime}")
        if operation.task == IMAGE and is_text:
            raise payload_refused(f"the task {IMAGE} expects an image; got {item.mime}")
        if is_text:
            return self._of_text(item, scope, started)
        if item.mime.startswith("image/"):
            return self._of_image(item, scope, started)
        raise payload_refused(f"expected an image or UTF-8 text; got {item.mime}")

    def _of_image(self, item: Item, scope: CancelScope, started: float) -> Embedded:
        if self._image is None:
            raise payload_refused("this server has no model for images (MIEN_IMAGE_MODEL); it embeds texts only")
        raw = self._image.get().run(self._limits.decode(item), scope)[EMBEDDING]
        length = np.linalg.norm(raw)
        if not np.isfinite(length) or length == 0:
            raise ModelError(f"{self._image.name}: the embedding has no direction")
        vector = np.ascontiguousarray(raw / length, np.float32)
        return Embedded(vector, self._image.name, time.perf_counter() - started)

    def _of_text(self, item: Item, scope: CancelScope, started: float) -> Embedded:
        if self._text is None:
            raise payload_refused("this server has no model for texts (MIEN_TEXT_MODEL); it embeds images only")
        try:
            text = item.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise payload_refused(f"expected UTF-8 text; byte {error.start} is invalid") from None
        found = self._text.get().embed(text, scope)
        return Embedded(found.vector, self._text.name, time.perf_counter() - started, found)


class EmbeddingService:
    """Embeddings of images and texts. Each kind has its own model, so that the two are not comparable."""

    name = "embedding"

    def __init__(
        self, runner: OperationRunner, limits: ImageLimits, *, image: str | None, text: str | None, strict: bool
    ) -> None:
        """`image`, `text`: names of the models, at least one. `strict`: reject unknown metadata keys."""
        self._runner = runner
        self._strict = strict
        self._tasks = tuple(_offered(image, text, limits.advertised()))

    def tasks(self) -> Sequence[TaskInfo]:
        return self._tasks

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task = task_of(self, request.task).name
        if self._strict:
            metadata.check_known(request.metadata, ())
        return self._runner.results(SCHEMA, request, scope, Embed(task), _to_result, stream=stream)


def _offered(image: str | None, text: str | None, limits: Mapping[str, str]) -> Sequence[TaskInfo]:
    out = (f"application/json;schema={SCHEMA}",)
    text_limits = {"max_items": limits["max_items"], "max_tokens": str(MAX_TOKENS)}
    single = [
        *([TaskInfo(IMAGE, IMAGE_MIMES, out, image, IMAGE_ALIASES, limits)] if image else []),
        *([TaskInfo(TEXT, TEXT_MIMES, out, text, TEXT_ALIASES, text_limits)] if text else []),
    ]
    mimes = tuple(mime for info in single for mime in info.input_mimes)
    model = single[0].model if len(single) == 1 else ""
    return [TaskInfo(EITHER, mimes, out, model, EITHER_ALIASES, limits if image else text_limits), *single]


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
