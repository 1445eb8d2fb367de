"""The services `face_detection` and `face_recognition`: the faces of images, in the schema `face_v1`."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from mien.detection_size import DetectionSize, parse_detection_size
from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Partial
from mien.faces.pipeline import Face, FaceOptions
from mien.faces.recognisers import chosen_recogniser
from mien.faces.service import FindFaces, FoundFaces
from mien.inference import metadata
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.images import IMAGE_MIMES, ImageLimits
from mien.inference.operation_runner import ItemResult, OperationRunner, milliseconds
from mien.inference.registry import task_of
from mien.inference.results import FaceExtras, FaceV1, FaceV1Face
from mien.metrics import Metrics
from mien.zoo.manifest import Manifest

SCHEMA = "face_v1"
DETECTION_ALIASES = ("face_detector_v1", "face_detection", "face_detector")
RECOGNITION_ALIASES = (
    "face_embed",
    "face_detect_and_embed",
    "face_recognizer_v1",
    "face_recogniser",
    "face_recognizer",
    "face_embedding",
)
THRESHOLD, NMS, SIZE_MIN, SIZE_MAX, MAX_FACES, DETECTION_SIZE, ROTATE = LIMIT_KEYS = (
    "detection_confidence_threshold",
    "nms_threshold",
    "face_size_min",
    "face_size_max",
    "max_faces",
    "detection_size",
    "rotate",
)
QUALITY, POSE, LANDMARKS_68 = EXTRA_KEYS = ("return_quality", "return_pose", "return_landmarks_68")
RECOGNISER, RECOGNIZER = RECOGNISER_KEYS = ("recogniser", "recognizer")
FACE_KEYS = (*LIMIT_KEYS, *EXTRA_KEYS, *RECOGNISER_KEYS)


class FaceV1Service:
    """Finds the faces of images. The two services differ only in whether they embed them."""

    def __init__(
        self,
        runner: OperationRunner,
        metrics: Metrics,
        limits: ImageLimits,
        *,
        model: str,
        recognisers: Mapping[str, Manifest],
        embedding: bool,
        threshold: float,
        strict: bool,
    ) -> None:
        """`model`: its name in results. `recognisers`: those that requests may choose, by name.

        `threshold`: the default detection threshold. `strict`: reject unknown keys.
        """
        self.name = "face_recognition" if embedding else "face_detection"
        self._runner = runner
        self._metrics = metrics
        self._model = model
        self._recognisers = recognisers
        self._embedding = embedding
        self._threshold = threshold
        self._strict = strict
        task, aliases = ("face_recognition", RECOGNITION_ALIASES) if embedding else ("face_detect", DETECTION_ALIASES)
        mimes = (f"application/json;schema={SCHEMA}",)
        self._task = TaskInfo(task, IMAGE_MIMES, mimes, model, aliases, limits.advertised())

    def tasks(self) -> Sequence[TaskInfo]:
        return (self._task,)

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        task_of(self, request.task)
        if self._strict:
            metadata.check_known(request.metadata, FACE_KEYS)
        options = face_options(request.metadata, self._threshold, embedding=self._embedding)
        shape = partial(self._to_result, options)
        return self._runner.results(SCHEMA, request, scope, FindFaces(options), shape, stream=stream)

    def _to_result(self, options: FaceOptions, event: Partial[FoundFaces] | Done[FoundFaces]) -> ItemResult:
        found, analysis = event.value, event.value.analysis
        value: FaceV1 = {
            "faces": [face_json(face, analysis.width, analysis.height, options) for face in analysis.faces],
            "count": len(analysis.faces),
            "model_id": self._model,
        }
        if self._embedding and options.recogniser is not None:
            chosen = chosen_recogniser(options.recogniser, self._recognisers)
            value["model_id"], value["same_threshold"] = chosen.name, chosen.same_threshold
        meta = {
            "face_count": str(len(analysis.faces)),
            "processing_time_ms": milliseconds(found.seconds),
            "lumen.model.id": value["model_id"],
        }
        if isinstance(event, Partial):
            meta |= {"face": str(event.part), "faces": str(event.parts)}
        else:
            self._metrics.faces.inc(len(analysis.faces))
        return ItemResult(value, meta)


def face_options(sent: Mapping[str, str], default_threshold: float, *, embedding: bool) -> FaceOptions:
    """The options in a request's metadata; absent or blank keys keep the server's defaults.

    Raises InvalidField naming the key.
    """
    smallest = metadata.number(sent, SIZE_MIN, 0.0, low=0)
    largest = metadata.number(sent, SIZE_MAX, 0.0, low=0)
    if 0 < largest < smallest:
        metadata.refuse(SIZE_MIN, f"expected at most {SIZE_MAX}, which is {largest:g}; got {smallest:g}")
    return FaceOptions(
        threshold=metadata.number(sent, THRESHOLD, default_threshold, low=0, high=1),
        nms_threshold=metadata.number(sent, NMS, 0.0, low=0, high=1) if metadata.given(sent, NMS) else None,
        embedding=embedding,
        recogniser=metadata.given(sent, RECOGNISER) or metadata.given(sent, RECOGNIZER) or None,
        landmarks=True,
        limit=max(0, metadata.integer(sent, MAX_FACES, 0, low=-1)),
        min_size=smallest,
        max_size=largest,
        quality=metadata.flag(sent, QUALITY, default=False),
        pose=metadata.flag(sent, POSE, default=False),
        landmarks_68=metadata.flag(sent, LANDMARKS_68, default=False),
        detection_size=_detection_size(metadata.given(sent, DETECTION_SIZE)),
        rotate=_rotate(metadata.given(sent, ROTATE)),
    )


def _detection_size(text: str) -> DetectionSize | None:
    try:
        return parse_detection_size(text) if text else None
    except ValueError as error:
        metadata.refuse(DETECTION_SIZE, f"{error}; got {text[:40]!r}")


def _rotate(text: str) -> Literal["auto", "off"] | None:
    if text == "auto":
        return "auto"
    if text not in ("", "off"):
        metadata.refuse(ROTATE, f"expected `auto` or `off`; got {text[:40]!r}")
    return "off" if text else None


def face_json(face: Face, width: int, height: int, options: FaceOptions) -> FaceV1Face:
    """One face in the schema `face_v1`; its box, in pixels, is clipped to the `width` × `height` image."""
    answer: FaceV1Face = {
        "bbox": np.clip(face.box, 0, np.array([width, height, width, height], np.float32)),
        "confidence": min(1.0, max(0.0, face.score)),
        "landmarks": np.ascontiguousarray(face.landmarks, np.float32).reshape(-1),
        "embedding": None if face.vector is None else np.ascontiguousarray(face.vector),
    }
    add_extras(answer, face, quality=options.quality, pose=options.pose, landmarks_68=options.landmarks_68)
    return answer


def add_extras(answer: FaceExtras, face: Face, *, quality: bool, pose: bool, landmarks_68: bool) -> None:
    """What a face only has if it was asked for."""
    if quality and face.quality is not None:
        answer["quality"] = face.quality
    if pose and face.pose is not None:
        answer["pose"] = {"yaw": face.pose.yaw, "pitch": face.pose.pitch, "roll": face.pose.roll}
    if landmarks_68:
        answer["landmarks_68"] = face.landmarks_68
