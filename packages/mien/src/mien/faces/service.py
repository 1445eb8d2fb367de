"""Face analysis as operations of the engine, and the service that runs them."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Engine, Failed, Handler, Operation, Report, Work, outcomes
from mien.engine.sources import Item, Source
from mien.faces.pipeline import Face, FaceAnalysis, FaceOptions, FacePipeline, detections_of
from mien.inference.images import ImageLimits
from mien.metrics import Metrics
from mien.vision.draw import draw_detections, encode_jpeg

# --- operations


@dataclass(frozen=True, slots=True)
class FindFaces(Operation["FoundFaces"]):
    """Find and describe the faces of an image."""

    options: FaceOptions
    aligned: bool = False
    """The image is an aligned 112×112 crop; skip detection."""


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """An image's faces (or some of them, in a partial value) and how long they took."""

    analysis: FaceAnalysis
    decode_seconds: float
    seconds: float
    """From the start of decoding to the last embedding, including waits for lanes."""


@dataclass(frozen=True, slots=True)
class DrawFaces(Operation["Drawing"]):
    """Draw an image's faces on it."""

    options: FaceOptions
    detector: str
    """The detector's name, written on the image."""
    landmarks: bool = True
    scores: bool = True
    sizes: bool = True


@dataclass(frozen=True, slots=True)
class Drawing:
    """The image with its faces drawn on it."""

    jpeg: bytes
    faces: int


# --- handlers


class FaceFinder(Handler):
    """Handles FindFaces."""

    def __init__(self, pipeline: FacePipeline, limits: ImageLimits) -> None:
        self._pipeline = pipeline
        self._limits = limits

    async def prepare(self, operation: FindFaces, sources: Sequence[Source]) -> None:
        await self._pipeline.require(operation.options)

    @contextmanager
    def begin(self, operation: FindFaces, sources: Sequence[Source]) -> Iterator[Work]:
        with self._pipeline.hold(operation.options):
            yield self.work

    def work(self, item: Item, operation: FindFaces, scope: CancelScope, report: Report | None) -> FoundFaces:
        started = time.perf_counter()
        photo = self._limits.open(item)
        numbers = itertools.count()

        def report_face(face: Face, faces: int) -> None:
            if report is not None and faces > 1:  # a single face is not partial: it is the whole value
                part = FaceAnalysis((face,), photo.width, photo.height)
                report(FoundFaces(part, photo.decode_seconds, time.perf_counter() - started), next(numbers), faces)

        if operation.aligned:
            analysis = self._pipeline.embed_crop(photo.pixels(), operation.options, scope)
        else:
            analysis = self._pipeline.analyse(photo, operation.options, scope, None if report is None else report_face)
        return FoundFaces(analysis, photo.decode_seconds, time.perf_counter() - started)


class FaceDrawer(Handler):
    """Handles DrawFaces."""

    def __init__(self, pipeline: FacePipeline, limits: ImageLimits) -> None:
        self._pipeline = pipeline
        self._limits = limits

    async def prepare(self, operation: DrawFaces, sources: Sequence[Source]) -> None:
        await self._pipeline.require(operation.options)

    @contextmanager
    def begin(self, operation: DrawFaces, sources: Sequence[Source]) -> Iterator[Work]:
        with self._pipeline.hold(operation.options):
            yield self.work

    def work(self, item: Item, operation: DrawFaces, scope: CancelScope, report: Report | None) -> Drawing:
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


# --- service


@dataclass(frozen=True, slots=True)
class ImageDone:
    """One image's faces, with timings in milliseconds."""

    analysis: FaceAnalysis
    took_ms: float
    """From the start of decoding to the last embedding, including waits for lanes but not the queue before that."""
    read_ms: float
    """Fetching and decoding."""


ImageResult: TypeAlias = ImageDone | Failed


class FaceService:
    """Analyses the images of a request, each isolated from the others."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def analyse(
        self, sources: Sequence[Source], options: FaceOptions, scope: CancelScope, *, aligned: bool = False
    ) -> list[ImageResult]:
        """One result per source, in order. `aligned`: the images are aligned 112×112 crops; skip detection.

        An error of one image becomes its result. Raises what Engine.run raises, and ModelUnavailable if the model for a
        requested attribute is missing.
        """
        if not sources:
            return []
        events = self._engine.run(FindFaces(options, aligned), sources, scope)
        return [self._result(outcome) for outcome in await outcomes(events, len(sources))]

    async def draw(self, source: Source, operation: DrawFaces, scope: CancelScope) -> bytes | Failed:
        """The image with its faces drawn on it, as JPEG. Raises what `analyse` raises."""
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
