"""Faces of images as `face_v1`: what the services face_detection and face_recognition share."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mien.engine.call import Call
from mien.faces.pipeline import Face, FaceAnalysis, FaceOptions, FacePipeline
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.images import IMAGE_MIMES, decoded, image_limits
from mien.inference.items import Answer, ItemWorkers, Tell, milliseconds, to_json
from mien.inference.registry import task_of
from mien.metrics import Metrics
from mien.vision.types import Image

SCHEMA = "face_v1"
THRESHOLD, NMS, SIZE_MIN, SIZE_MAX, MAX_FACES = FACE_KEYS = (
    "detection_confidence_threshold",
    "nms_threshold",
    "face_size_min",
    "face_size_max",
    "max_faces",
)


class FaceV1Service:
    """Finds the faces of images; whether it embeds them is all that its two names differ in."""

    def __init__(
        self,
        name: str,
        task: str,
        aliases: Sequence[str],
        *,
        workers: ItemWorkers,
        metrics: Metrics,
        pipeline: FacePipeline,
        model: str,
        embedding: bool,
    ) -> None:
        """`model`: the name that results carry."""
        self.name = name
        self._workers = workers
        self._metrics = metrics
        self._pipeline = pipeline
        self._model = model
        self._embedding = embedding
        limits = image_limits(workers.limits)
        mimes = (f"application/json;schema={SCHEMA}",)
        self._task = TaskInfo(task, IMAGE_MIMES, mimes, model, tuple(aliases), limits)

    def tasks(self) -> Sequence[TaskInfo]:
        return (self._task,)

    def infer(self, request: InferRequest, call: Call, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        api = self._workers.api
        if api.strict_metadata:
            metadata.check_known(request.metadata, FACE_KEYS)
        options = face_options(request.metadata, api.default_threshold, embedding=self._embedding)

        def work(item: Item, tell: Tell | None) -> Answer:
            return self._faces(item, options, call, tell)

        return self._workers.answers(SCHEMA, request, call, work, stream=stream)

    def _faces(self, item: Item, options: FaceOptions, call: Call, tell: Tell | None) -> Answer:
        started = time.perf_counter()
        image = decoded(item, self._workers.limits)
        analysis = self._pipeline.analyse(image, options, call, self._teller(image, tell, started))
        self._metrics.faces.inc(len(analysis.faces))
        return self._answer(analysis.faces, analysis, started)

    def _teller(self, image: Image, tell: Tell | None, started: float) -> Callable[[Face, int], None] | None:
        if tell is None:
            return None
        height, width = image.shape[:2]
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


def face_options(sent: Mapping[str, str], default_threshold: float, *, embedding: bool) -> FaceOptions:
    """The five face keys as options; keys that are absent or blank keep the server's defaults.

    Raises InvalidField that names the key.
    """
    smallest = metadata.number(sent, SIZE_MIN, 0.0, low=0)
    largest = metadata.number(sent, SIZE_MAX, 0.0, low=0)
    if 0 < largest < smallest:
        metadata.refuse(SIZE_MIN, f"expected at most {SIZE_MAX}, which is {largest:g}; got {smallest:g}")
    return FaceOptions(
        threshold=metadata.number(sent, THRESHOLD, default_threshold, low=0, high=1),
        nms_threshold=metadata.number(sent, NMS, 0.0, low=0, high=1) if metadata.given(sent, NMS) else None,
        embedding=embedding,
        landmarks=True,
        limit=max(0, metadata.integer(sent, MAX_FACES, 0, low=-1)),
        min_size=smallest,
        max_size=largest,
    )


def face_json(face: Face, width: int, height: int) -> dict[str, Any]:
    """One face; the box, in pixels, is cut at the edges of the `width` × `height` image."""
    return {
        "bbox": np.clip(face.box, 0, np.array([width, height, width, height], np.float32)),
        "confidence": min(1.0, max(0.0, face.score)),
        "landmarks": np.ascontiguousarray(face.landmarks, np.float32).reshape(-1),
        "embedding": None if face.vector is None else np.ascontiguousarray(face.vector),
    }
