"""Faces of pictures as `face_v1`: what the services face_detection and face_recognition share."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import numpy as np

from mien.engine.call import Call
from mien.metrics import Metrics
from mien.services import metadata
from mien.services.faces import Face, FaceAnalysis, FaceOptions, FacePipeline
from mien.services.inference import InferRequest, InferResult, Item, TaskInfo
from mien.services.items import Answer, ItemWorkers, Tell, milliseconds, to_json
from mien.services.pictures import IMAGE_MIMES, decoded, picture_limits
from mien.services.registry import task_of
from mien.vision.types import Picture

SCHEMA = "face_v1"


class FaceV1Service:
    """Finds the faces of pictures; whether it embeds them is all that its two names differ in."""

    def __init__(
        self, name: str, task: str, aliases: Sequence[str], *, workers: ItemWorkers, metrics: Metrics,
        pipeline: FacePipeline, model: str, embedding: bool,
    ) -> None:  # fmt: skip
        """`model`: the name that results carry."""
        self.name = name
        self._workers = workers
        self._metrics = metrics
        self._pipeline = pipeline
        self._model = model
        self._embedding = embedding
        limits = picture_limits(workers.settings)
        mimes = (f"application/json;schema={SCHEMA}",)
        self._task = TaskInfo(task, IMAGE_MIMES, mimes, model, tuple(aliases), limits)

    def tasks(self) -> Sequence[TaskInfo]:
        return (self._task,)

    def infer(self, request: InferRequest, call: Call, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        settings = self._workers.settings
        if settings.strict_metadata:
            metadata.check_known(request.metadata, metadata.FACE_KEYS)
        options = metadata.face_options(request.metadata, settings.default_threshold, embedding=self._embedding)

        def work(item: Item, tell: Tell | None) -> Answer:
            return self._faces(item, options, call, tell)

        return self._workers.answers(SCHEMA, request, call, work, stream=stream)

    def _faces(self, item: Item, options: FaceOptions, call: Call, tell: Tell | None) -> Answer:
        started = time.perf_counter()
        picture = decoded(item, self._workers.settings)
        analysis = self._pipeline.analyse(picture, options, call, self._teller(picture, tell, started))
        self._metrics.faces.inc(len(analysis.faces))
        return self._answer(analysis.faces, analysis, started)

    def _teller(self, picture: Picture, tell: Tell | None, started: float) -> Callable[[Face, int], None] | None:
        if tell is None:
            return None
        height, width = picture.shape[:2]
        size = FaceAnalysis((), width, height, 1.0)
        told = 0

        def one(face: Face, faces: int) -> None:
            nonlocal told
            if faces > 1:
                tell(self._answer((face,), size, started, {"face": str(told), "faces": str(faces)}))
                told += 1

        return one

    def _answer(
        self, faces: Sequence[Face], size: FaceAnalysis, started: float, extra: dict[str, str] | None = None
    ) -> Answer:
        payload = {
            "faces": [face_json(face, size.width, size.height) for face in faces],
            "count": len(faces),
            "model_id": self._model,
        }
        meta = {
            "face_count": str(len(faces)),
            "processing_time_ms": milliseconds(time.perf_counter() - started),
            "lumen.model.id": self._model,
        }
        return Answer(to_json(payload), {**meta, **(extra or {})})


def face_json(face: Face, width: int, height: int) -> dict[str, Any]:
    """One face; the box, in pixels, is cut at the edges of the `width` × `height` picture."""
    return {
        "bbox": np.clip(face.box, 0, np.array([width, height, width, height], np.float32)),
        "confidence": min(1.0, max(0.0, face.score)),
        "landmarks": np.ascontiguousarray(face.landmarks, np.float32).reshape(-1),
        "embedding": None if face.vector is None else np.ascontiguousarray(face.vector),
    }
