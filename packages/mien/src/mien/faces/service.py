"""Faces of images as operations of the engine, and the service that asks for them."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Engine, Failed, Handler, Operation, Tell, outcomes
from mien.engine.sources import Item, Source
from mien.faces.pipeline import Face, FaceAnalysis, FaceOptions, FacePipeline, detections_of
from mien.inference.images import ImageLimits
from mien.metrics import Metrics
from mien.vision.draw import draw_detections, encode_jpeg

# --- what the engine is asked for


@dataclass(frozen=True, slots=True)
class FindFaces(Operation["FoundFaces"]):
    """Find and describe the faces of an image."""

    options: FaceOptions
    aligned: bool = False
    """The image is an aligned 112×112 crop, not to be searched for faces."""


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """An image's faces, or some of them, and how long they took."""

    analysis: FaceAnalysis
    decode_seconds: float
    seconds: float
    """From the start of decoding to the last vector, waiting for lanes included."""


@dataclass(frozen=True, slots=True)
class DrawFaces(Operation["Drawing"]):
    """Draw an image's faces on it."""

    options: FaceOptions
    detector: str
    """The name that is written on the image."""
    landmarks: bool = True
    scores: bool = True
    sizes: bool = True


@dataclass(frozen=True, slots=True)
class Drawing:
    """The image with its faces drawn in."""

    jpeg: bytes
    faces: int


# --- how the engine does it


class FaceFinder(Handler):
    """Handles FindFaces."""

    def __init__(self, pipeline: FacePipeline, limits: ImageLimits) -> None:
        self._pipeline = pipeline
        self._limits = limits

    async def prepare(self, operation: FindFaces, sources: Sequence[Source]) -> None:
        await self._pipeline.require(operation.options)

    def work(self, item: Item, operation: FindFaces, scope: CancelScope, tell: Tell | None) -> FoundFaces:
        started = time.perf_counter()
        image = self._limits.decode(item)
        decode_seconds = time.perf_counter() - started
        height, width = image.shape[:2]

        told = itertools.count()

        def report(face: Face, faces: int) -> None:
            if tell is not None and faces > 1:  # a single face is the whole value
                part = FaceAnalysis((face,), width, height, 1.0)
                tell(FoundFaces(part, decode_seconds, time.perf_counter() - started), next(told), faces)

        if operation.aligned:
            analysis = self._pipeline.embed_crop(image, operation.options, scope)
        else:
            analysis = self._pipeline.analyse(image, operation.options, scope, None if tell is None else report)
        return FoundFaces(analysis, decode_seconds, time.perf_counter() - started)


class FaceDrawer(Handler):
    """Handles DrawFaces."""

    def __init__(self, pipeline: FacePipeline, limits: ImageLimits) -> None:
        self._pipeline = pipeline
        self._limits = limits

    async def prepare(self, operation: DrawFaces, sources: Sequence[Source]) -> None:
        await self._pipeline.require(operation.options)

    def work(self, item: Item, operation: DrawFaces, scope: CancelScope, tell: Tell | None) -> Drawing:
        image = self._limits.decode(item)
        faces = self._pipeline.analyse(image, operation.options, scope).faces
        drawn = draw_detections(
            image,
            detections_of(faces),
            detector=operation.detector,
            landmarks=operation.landmarks,
            scores=operation.scores,
            sizes=operation.sizes,
            masks=[face.attributes.mask for face in faces],
        )
        return Drawing(encode_jpeg(drawn), len(faces))


# --- who asks


@dataclass(frozen=True, slots=True)
class ImageDone:
    """One image's faces and where its time went (milliseconds)."""

    analysis: FaceAnalysis
    took_ms: float
    """From the start of decoding to the last vector, waiting for lanes included, queueing before it not."""
    read_ms: float
    """Fetching and decoding."""


ImageResult: TypeAlias = ImageDone | Failed


class FaceService:
    """Faces of many images of one request, each isolated from the others."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def analyse(
        self, sources: Sequence[Source], options: FaceOptions, scope: CancelScope, *, aligned: bool = False
    ) -> list[ImageResult]:
        """A result per source, in order. `aligned`: the images are 112×112 crops, not to be searched for faces.

        What is wrong with one image stays in its own result. Raises as Engine.run does, also ModelUnavailable for an
        attribute whose model is not here.
        """
        if not sources:
            return []
        events = self._engine.run(FindFaces(options, aligned), sources, scope)
        return [self._result(outcome) for outcome in await outcomes(events, len(sources))]

    async def draw(self, source: Source, operation: DrawFaces, scope: CancelScope) -> bytes | Failed:
        """The image with its faces drawn in, as JPEG. Raises as `analyse` does."""
        (outcome,) = await outcomes(self._engine.run(operation, [source], scope), 1)
        if isinstance(outcome, Failed):
            self._metrics.errors.labels(outcome.error.code).inc()
            return outcome
        self._metrics.faces.inc(outcome.value.faces)
        return outcome.value.jpeg

    def _result(self, outcome: Done[FoundFaces] | Failed) -> ImageResult:
        if isinstance(outcome, Failed):
            self._metrics.errors.labels(outcome.error.code).inc()
            return outcome
        found = outcome.value
        self._metrics.faces.inc(len(found.analysis.faces))
        return ImageDone(found.analysis, found.seconds * 1e3, (outcome.read_seconds + found.decode_seconds) * 1e3)
