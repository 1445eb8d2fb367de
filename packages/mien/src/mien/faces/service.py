"""The face service: many images of many callers, each isolated from the others. Asynchronous."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from mien.engine.admission import Admission
from mien.engine.call import Call
from mien.engine.pool import WorkerPool
from mien.errors import BodyTooLarge, ImageError, InternalError, MienError
from mien.faces.pipeline import FaceAnalysis, FaceOptions, FacePipeline
from mien.inference.sources import Source, SourceReader
from mien.metrics import Metrics
from mien.settings import Limits
from mien.vision.image import decode
from mien.vision.types import Image

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ImageDone:
    """One image's faces and where its time went (milliseconds)."""

    analysis: FaceAnalysis
    took_ms: float
    """From the start of decoding to the last vector, waiting for lanes included, queueing before it not."""
    read_ms: float
    """Fetching and decoding."""


@dataclass(frozen=True, slots=True)
class ImageFailed:
    """One image that could not be used; its neighbours are not affected."""

    error: MienError


ImageResult: TypeAlias = ImageDone | ImageFailed


class FaceService:
    """Analyses images within the server's limits."""

    def __init__(
        self,
        pipeline: FacePipeline,
        *,
        reader: SourceReader,
        pool: WorkerPool,
        admission: Admission,
        limits: Limits,
        metrics: Metrics,
        parallel: int,
    ) -> None:
        """`parallel`: most images of one request in the worker threads at once, so that no request starves others."""
        self.pipeline = pipeline
        self._reader = reader
        self._pool = pool
        self._admission = admission
        self._limits = limits
        self._metrics = metrics
        self._parallel = parallel

    async def analyse(
        self, sources: Sequence[Source], options: FaceOptions, call: Call, *, aligned: bool = False
    ) -> list[ImageResult]:
        """A result per source, in order. `aligned`: the images are 112×112 crops, not to be searched for faces.

        Raises BodyTooLarge for too many sources, Overloaded, Unavailable, ModelUnavailable for an attribute whose
        model is not here, and DeadlineExceeded or Cancelled when the
        call is over. What is wrong with one image stays in its own result.
        """
        if len(sources) > self._limits.max_images:
            raise BodyTooLarge(
                f"{len(sources)} images in one request; this server takes at most {self._limits.max_images}"
            )
        if not sources:
            return []
        await self.pipeline.require(options)
        turn = asyncio.Semaphore(self._parallel)
        with self._admission.work(len(sources)) as finished:

            async def one(source: Source) -> ImageResult:
                async with turn:
                    result = await self._isolated(source, options, call, aligned)
                finished()
                return result

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(source)) for source in sources]
            except ExceptionGroup as over:  # the call ended: its first image that noticed ended the others
                raise over.exceptions[0] from None
        return [task.result() for task in tasks]

    async def image(self, source: Source, call: Call) -> Image:
        """The decoded image of a source. Raises ImageError."""
        data = await self._reader.read(source, self._pool, call)
        return await self._pool.run(call, self._decode, data)

    async def _isolated(self, source: Source, options: FaceOptions, call: Call, aligned: bool) -> ImageResult:
        try:
            result = await self._one(source, options, call, aligned)
        except ImageError as error:
            self._metrics.images.labels("failed").inc()
            self._metrics.errors.labels(error.code).inc()
            return ImageFailed(error.without_frames())
        except MienError as error:
            if error.status in (499, 504):  # the whole call is over
                raise
            log.error("image failed", code=error.code, exc_info=error)
            self._metrics.images.labels("failed").inc()
            return ImageFailed(error.without_frames())
        except Exception as error:
            log.error("image failed", exc_info=error)
            self._metrics.images.labels("failed").inc()
            return ImageFailed(InternalError("the server failed on this image; its log has the details"))
        self._metrics.images.labels("done").inc()
        self._metrics.faces.inc(len(result.analysis.faces))
        return result

    async def _one(self, source: Source, options: FaceOptions, call: Call, aligned: bool) -> ImageDone:
        started = time.perf_counter()
        data = await self._reader.read(source, self._pool, call)
        fetched_ms = (time.perf_counter() - started) * 1e3
        return await self._pool.run(call, self._work, data, options, call, aligned, fetched_ms)

    def _work(
        self, data: bytes | memoryview, options: FaceOptions, call: Call, aligned: bool, fetched_ms: float
    ) -> ImageDone:
        started = time.perf_counter()
        image = self._decode(data)
        decoded = time.perf_counter()
        analysis = (
            self.pipeline.embed_crop(image, options, call) if aligned else self.pipeline.analyse(image, options, call)
        )
        done = time.perf_counter()
        return ImageDone(analysis, (done - started) * 1e3, fetched_ms + (decoded - started) * 1e3)

    def _decode(self, data: bytes | memoryview) -> Image:
        return decode(data, max_pixels=self._limits.max_pixels, max_bytes=self._limits.max_image_bytes)
