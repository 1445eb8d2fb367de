"""The service `embedding`: images and texts as vectors (`embedding_v1`)."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mien.engine.call import Call
from mien.errors import ModelError
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.image_model import EMBEDDING, ImageModel
from mien.inference.images import IMAGE_MIMES, decoded, image_limits
from mien.inference.items import Answer, ItemWorkers, Tell, milliseconds, payload_refused, to_json
from mien.inference.registry import task_of
from mien.inference.text_model import MAX_TOKENS, TextModel
from mien.vision.types import Array
from mien.zoo.on_demand import OnDemand

SCHEMA = "embedding_v1"
TEXT_MIMES = ("text/plain", "text/markdown", "text/html")
EITHER, IMAGE, TEXT = "embed", "semantic_image_embed", "semantic_text_embed"
EITHER_ALIASES = ("lumen_clip_embed", "clip_embed", "lumen_embed")
IMAGE_ALIASES = ("clip_image_embed", "bioclip_image_embed", "smartclip_image_embed", "image_embed")
TEXT_ALIASES = ("clip_text_embed", "bioclip_text_embed", "smartclip_text_embed", "text_embed")

Vector: TypeAlias = tuple[Array, str, dict[str, str]]
"""Length 1, its model's name, what else is to be said."""


class EmbeddingService:
    """Vectors of images and texts, each by its own model: the two kinds cannot be compared with each other."""

    name = "embedding"

    def __init__(
        self, workers: ItemWorkers, image: OnDemand[ImageModel] | None, text: OnDemand[TextModel] | None
    ) -> None:
        """At least one model."""
        self._workers = workers
        self._image = image
        self._text = text
        self._tasks = tuple(self._offered(image_limits(workers.limits)))

    def tasks(self) -> Sequence[TaskInfo]:
        return self._tasks

    def infer(self, request: InferRequest, call: Call, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task = task_of(self, request.task).name
        if self._workers.api.strict_metadata:
            metadata.check_known(request.metadata, ())

        def work(item: Item, _tell: Tell | None) -> Answer:
            return self._embed(item, task, call)

        return self._workers.answers(SCHEMA, request, call, work, stream=stream, needs=self._needs(request))

    def _offered(self, limits: Mapping[str, str]) -> Sequence[TaskInfo]:
        out = (f"application/json;schema={SCHEMA}",)
        image = self._image and TaskInfo(IMAGE, IMAGE_MIMES, out, self._image.name, IMAGE_ALIASES, limits)
        text_limits = {"max_items": limits["max_items"], "max_tokens": str(MAX_TOKENS)}
        text = self._text and TaskInfo(TEXT, TEXT_MIMES, out, self._text.name, TEXT_ALIASES, text_limits)
        single = [info for info in (image, text) if info]
        mimes = tuple(mime for info in single for mime in info.input_mimes)
        models = " ".join(info.model for info in single)
        return [TaskInfo(EITHER, mimes, out, models, EITHER_ALIASES, limits if image else text_limits), *single]

    def _needs(self, request: InferRequest) -> Sequence[OnDemand[Any]]:
        """The models of the kinds of payload that the request has."""
        kinds = {item.mime.partition("/")[0] for item in request.items}
        return [model for model, kind in ((self._image, "image"), (self._text, "text")) if model and kind in kinds]

    def _embed(self, item: Item, task: str, call: Call) -> Answer:
        started = time.perf_counter()
        vector, model, extra = self._vector(item, task, call)
        payload = {"vector": vector, "dim": len(vector), "model_id": model}
        meta = {
            "dim": str(len(vector)),
            "processing_time_ms": milliseconds(time.perf_counter() - started),
            "lumen.model.id": model,
        }
        return Answer(to_json(payload), {**meta, **extra})

    def _vector(self, item: Item, task: str, call: Call) -> Vector:
        is_text = item.mime.startswith("text/")
        if task == TEXT and not is_text:
            raise payload_refused(f"the task {TEXT} expects UTF-8 text; got {item.mime}")
        if task == IMAGE and is_text:
            raise payload_refused(f"the task {IMAGE} expects an image; got {item.mime}")
        if is_text:
            return self._of_text(item, call)
        if item.mime.startswith("image/"):
            return self._of_image(item, call)
        raise payload_refused(f"expected an image or UTF-8 text; got {item.mime}")

    def _of_image(self, item: Item, call: Call) -> Vector:
        if self._image is None:
            raise payload_refused("this server has no model for images (MIEN_IMAGE_MODEL); it embeds texts only")
        raw = self._image.get().run(decoded(item, self._workers.limits), call)[EMBEDDING]
        length = np.linalg.norm(raw)
        if not np.isfinite(length) or length == 0:
            raise ModelError(f"{self._image.name}: the embedding has no direction")
        return np.ascontiguousarray(raw / length, np.float32), self._image.name, {}

    def _of_text(self, item: Item, call: Call) -> Vector:
        if self._text is None:
            raise payload_refused("this server has no model for texts (MIEN_TEXT_MODEL); it embeds images only")
        try:
            text = item.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise payload_refused(f"expected UTF-8 text; byte {error.start} is none") from None
        found = self._text.get().embed(text, call)
        return found.vector, self._text.name, {"tokens": str(found.tokens), "truncated": str(found.truncated).lower()}
