"""The asyncio client: performs the steps that the I/O-free core decides, on the event loop."""
# ruff: noqa: ASYNC109 - `timeout` covers a call with all its retries, as in the blocking client

import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, Unpack, overload

from ifr_clients import _calls
from ifr_clients._async_io import ASYNCHRONOUS, Connections, Images, InFlight, each, in_thread, sleep
from ifr_clients._base import BaseClient
from ifr_clients._calls import CompareOptions, DetectionSize, DrawOptions, ExtractOptions
from ifr_clients._images import Accepted, Image, Mode, accept, accept_all, is_slow, label, load, load_or_reason
from ifr_clients._many import (
    Batch,
    Batcher,
    BatchLimits,
    Finished,
    Result,
    answers_of,
    as_asked,
    check_arguments,
    concerns_one_image,
    limits_of,
    stopped_at,
)
from ifr_clients._messages import Call
from ifr_clients._progress import Progress, Reporter, length_of, reporter
from ifr_clients._responses import failed_image
from ifr_clients._retry import Wait
from ifr_clients.errors import IFRError, IFRRejected, Stopped
from ifr_clients.schemas import CompareResponse, ImageResponse, RecognitionResponse

T = TypeVar("T")
Ask: TypeAlias = Callable[[list[str | bytes]], Awaitable[dict[str, Any]]]


class IFRClientAsync(BaseClient):
    """Client of an InsightFace-REST server for asyncio.

    Use `async with`, or `await close()` at the end; it connects on first use, also after `close()`. One client serves
    any number of asyncio tasks of one event loop; in another loop it reconnects.
    """

    def _disconnected(self) -> None:
        self._connections = Connections(self._settings)

    async def start(self, sess: object = None) -> None:
        """Prepare to connect. Optional: kept for code written for clients that require it.

        A session of another library cannot be used: giving one is a warning.
        """
        if sess is not None:
            text = f"{type(self).__name__} manages its own connections: the given {type(sess).__name__} is not used"
            warnings.warn(text, stacklevel=2)
        self._connections.open()

    async def close(self) -> None:
        """Close all connections. May be called more than once; the next call reconnects."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def extract(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        threshold: float = 0.6,
        extract_embedding: bool = True,
        return_face_data: bool = False,
        return_landmarks: bool = False,
        embed_only: bool = False,
        limit_faces: int = 0,
        min_face_size: int = 0,
        img_req_headers: dict[str, str] | None = None,
        use_msgpack: bool = True,
        raw_response: Literal[True] = True,
        *,
        timeout: float | None = None,
        extract_ga: bool = False,
        detect_masks: bool = False,
        verbose_timings: bool = False,
        return_quality: bool = False,
        return_pose: bool = False,
        return_landmarks_68: bool = False,
        recogniser: str | None = None,
        detection_size: DetectionSize | None = None,
        rotate: Literal["auto", "off"] | None = None,
    ) -> dict[str, Any]: ...

    @overload
    async def extract(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        *,
        raw_response: Literal[False],
        use_msgpack: bool = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> RecognitionResponse: ...

    async def extract(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        threshold: float = 0.6,
        extract_embedding: bool = True,
        return_face_data: bool = False,
        return_landmarks: bool = False,
        embed_only: bool = False,
        limit_faces: int = 0,
        min_face_size: int = 0,
        img_req_headers: dict[str, str] | None = None,
        use_msgpack: bool = True,
        raw_response: bool = True,
        *,
        timeout: float | None = None,
        extract_ga: bool = False,
        detect_masks: bool = False,
        verbose_timings: bool = False,
        return_quality: bool = False,
        return_pose: bool = False,
        return_landmarks_68: bool = False,
        recogniser: str | None = None,
        detection_size: DetectionSize | None = None,
        rotate: Literal["auto", "off"] | None = None,
    ) -> dict[str, Any] | RecognitionResponse:
        """Faces of each image, in the order of the images.

        `mode='paths'`: URLs, or paths on the server. `mode='data'`: bytes, pathlib.Path, open files, base64 text,
        data: URIs, images of PIL, arrays of numpy: uint8 [H, W], [H, W, 3] BGR as OpenCV has it, or [H, W, 4] BGRA.
        Returns a dict, or with `raw_response=False` a model whose `data` has one entry per image; face crops are JPEG
        bytes in both. The `status` of an image tells whether it failed. `timeout` is in seconds. `detection_size`: the
        longest side to which images are scaled down to find faces, 'auto' or 'full'; None: the server's default.
        Raises ValueError or TypeError if data and mode do not match, OSError if a file cannot be read, IFRError
        otherwise.
        """
        images = accept_all(data, mode)
        options: ExtractOptions = {
            "threshold": threshold,
            "extract_embedding": extract_embedding,
            "return_face_data": return_face_data,
            "return_landmarks": return_landmarks,
            "embed_only": embed_only,
            "limit_faces": limit_faces,
            "min_face_size": min_face_size,
            "img_req_headers": img_req_headers,
            "extract_ga": extract_ga,
            "detect_masks": detect_masks,
            "verbose_timings": verbose_timings,
            "return_quality": return_quality,
            "return_pose": return_pose,
            "return_landmarks_68": return_landmarks_68,
            "recogniser": recogniser,
            "detection_size": detection_size,
            "rotate": rotate,
        }
        build = partial(_calls.extract, self._settings, options=options, msgpack=use_msgpack, raw=raw_response)
        call = await _prepared(images, build)
        return await self._run(call, timeout)

    @overload
    def extract_many(
        self,
        data: Images,
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        start: int | Stopped | None = None,
        use_msgpack: bool = True,
        raw_response: Literal[True] = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[dict[str, Any]]: ...

    @overload
    def extract_many(
        self,
        data: Images,
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        start: int | Stopped | None = None,
        use_msgpack: bool = True,
        raw_response: Literal[False],
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[ImageResponse]: ...

    def extract_many(
        self,
        data: Images,
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        start: int | Stopped | None = None,
        use_msgpack: bool = True,
        raw_response: bool = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[dict[str, Any]] | AsyncIterator[ImageResponse]:
        """The result of each image of a large collection, in order, as soon as it and all before it are available.

        Images are taken from `data` on demand: at most `2 × concurrency` batches are held at a time. A batch has
        `batch_size` images; None: the server's batch size, at least 16, within the server's limits. `concurrency`
        requests run concurrently. `progress=True` draws a line on stderr; a function is called with the number of
        images done and in total, None if `data` has no length. The other arguments and results are those of `extract`;
        `timeout` is per request.

        An image that does not match the mode, cannot be read, or makes the server fail, has a result with
        `status='error'`, and its neighbours have theirs. An error that concerns them all is raised after the results
        before it; so is what `data` raises. `start` is the position of the first image, or the `stopped` of an IFRError
        that has been raised: results which had arrived then are not computed again. Its notes name the image.
        """
        begin = check_arguments(data, batch_size, concurrency, mode, start, asynchronous=ASYNCHRONOUS)
        ask = partial(self.extract, mode=mode, use_msgpack=use_msgpack, timeout=timeout, **options)
        return self._results(
            data, mode, begin, batch_size, concurrency, reporter(progress), ask, timeout, as_model=not raw_response
        )

    @overload
    async def compare(
        self,
        first: Image,
        second: Image,
        mode: Mode = "paths",
        threshold: float = 0.6,
        limit_faces: int = 0,
        min_face_size: int = 0,
        img_req_headers: dict[str, str] | None = None,
        use_msgpack: bool = True,
        raw_response: Literal[True] = True,
        *,
        timeout: float | None = None,
        detect_masks: bool = False,
        same_threshold: float | None = None,
        return_quality: bool = False,
        return_pose: bool = False,
        return_landmarks_68: bool = False,
        recogniser: str | None = None,
        detection_size: DetectionSize | None = None,
        rotate: Literal["auto", "off"] | None = None,
    ) -> dict[str, Any]: ...

    @overload
    async def compare(
        self,
        first: Image,
        second: Image,
        mode: Mode = "paths",
        *,
        raw_response: Literal[False],
        use_msgpack: bool = True,
        timeout: float | None = None,
        **options: Unpack[CompareOptions],
    ) -> CompareResponse: ...

    async def compare(
        self,
        first: Image,
        second: Image,
        mode: Mode = "paths",
        threshold: float = 0.6,
        limit_faces: int = 0,
        min_face_size: int = 0,
        img_req_headers: dict[str, str] | None = None,
        use_msgpack: bool = True,
        raw_response: bool = True,
        *,
        timeout: float | None = None,
        detect_masks: bool = False,
        same_threshold: float | None = None,
        return_quality: bool = False,
        return_pose: bool = False,
        return_landmarks_68: bool = False,
        recogniser: str | None = None,
        detection_size: DetectionSize | None = None,
        rotate: Literal["auto", "off"] | None = None,
    ) -> dict[str, Any] | CompareResponse:
        """The cosine similarity of each face of the first image to each of the second, and whether they match.

        `threshold` is the minimum detection score, `same_threshold` the cosine from which two faces match; None: the
        recogniser's. Original servers do not have this route. Raises like `extract`, and IFRRejected if an image cannot
        be used.
        """
        images = [accept(first, mode, "first"), accept(second, mode, "second")]
        options: CompareOptions = {
            "threshold": threshold,
            "limit_faces": limit_faces,
            "min_face_size": min_face_size,
            "detect_masks": detect_masks,
            "img_req_headers": img_req_headers,
            "same_threshold": same_threshold,
            "return_quality": return_quality,
            "return_pose": return_pose,
            "return_landmarks_68": return_landmarks_68,
            "recogniser": recogniser,
            "detection_size": detection_size,
            "rotate": rotate,
        }
        build = partial(_calls.compare, self._settings, options=options, msgpack=use_msgpack, raw=raw_response)
        call = await _prepared(images, build)
        return await self._run(call, timeout)

    async def draw(
        self, image: Image, mode: Mode = "paths", *, timeout: float | None = None, **options: Unpack[DrawOptions]
    ) -> bytes:
        """The image with its faces drawn in, as JPEG.

        `draw_landmarks`, `draw_scores` and `draw_sizes` are on by default. Raises like `compare`.
        """
        build = partial(_calls.draw, self._settings, options=options)
        call = await _prepared([accept(image, mode, "image")], build)
        return await self._run(call, timeout)

    async def health(self, *, timeout: float | None = None) -> dict[str, Any]:
        """`{'status': 'ok'}` if the server's self check succeeds. Raises IFRRejected if it fails."""
        return await self._run(_calls.health(self._settings), timeout)

    async def server_info(
        self, server: str | None = None, show: bool = True, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Models, defaults and limits of the server, or of another one at the URL `server`; printed if `show`.

        The client's API key and headers are sent to its own server only.
        """
        call = _calls.server_info(self._settings, server)
        info = await self._run(call, timeout)
        if show:
            sys.stdout.write(_calls.describe(call.request.url.removesuffix("/info"), info))
        return info

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        steps = self._flow(call, timeout)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Wait):
                    await sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    response = await self._connections.send(step)
                except IFRError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _results(
        self,
        data: Images,
        mode: Mode,
        begin: Stopped,
        batch_size: int | None,
        concurrency: int,
        report: Reporter,
        ask: Ask,
        timeout: float | None,
        *,
        as_model: bool,
    ) -> AsyncIterator[Any]:
        total, done = length_of(data), begin.index
        running: InFlight[Finished] = InFlight(concurrency)
        part = Finished(done, [])
        try:
            limits = BatchLimits(batch_size) if batch_size else await self._limits(timeout)
            batches = _batches(data, mode, limits, begin)
            while True:
                while len(running) < 2 * concurrency and (batch := await anext(batches, None)) is not None:
                    running.start(partial(_finished, batch, ask))
                    del batch  # so that only the request keeps its images alive
                if not len(running):
                    return
                part = await running.next()
                for result in part.results:
                    answer = as_asked(result, model=as_model)
                    done += 1
                    report(done, total)
                    yield answer
        except IFRError as error:
            error.stopped = stopped_at(done, begin, [part, *running.finished()])
            raise
        finally:
            await running.close()
            report.finish(done, total)

    async def _limits(self, timeout: float | None) -> BatchLimits:
        return limits_of(await self.server_info(show=False, timeout=timeout))


async def _finished(batch: Batch, ask: Ask) -> Finished:
    """The results of a batch. Raises IFRError, and what the collection has raised in its place."""
    if batch.broken is not None:
        raise batch.broken
    try:
        return batch.finished(await _answers(batch.images, ask))
    except IFRError as error:
        batch.note(error)
        raise


async def _answers(images: list[str | bytes], ask: Ask) -> list[Result | IFRRejected]:
    """For each image its result, or why the server rejects it even alone. Raises IFRError."""
    if not images:
        return []
    try:
        found = answers_of(await ask(images), len(images))
    except IFRRejected as error:
        if not concerns_one_image(error):
            raise
        if len(images) == 1:
            return [error]
        middle = len(images) // 2
        return [*await _answers(images[:middle], ask), *await _answers(images[middle:], ask)]
    return [*found, *await _answers(images[len(found) :], ask)]


async def _batches(data: Images, mode: Mode, limits: BatchLimits, begin: Stopped) -> AsyncIterator[Batch]:
    batcher = Batcher(limits, begin.index)
    position = -1
    try:
        async for image in each(data):
            position += 1
            if position < begin.index:
                continue
            if known := begin.results.get(position):
                full = batcher.add_known(known, label(image))
            else:
                full = await _added(batcher, image, mode, f"image {position}")
            if full:
                yield full
    except Exception as error:  # noqa: BLE001 - whatever it is, results of the images before it come first
        if batch := batcher.flush():
            yield batch
        error.add_note(f"extract_many stopped at image {position + 1}, which its data failed to provide")
        yield Batch(position + 1, [], broken=error)
        return
    if batch := batcher.flush():
        yield batch


async def _added(batcher: Batcher, image: Image, mode: Mode, name: str) -> Batch | None:
    """The batch that the image completes; one that cannot be used or read is added as its failed result."""
    try:
        accepted = accept(image, mode, name)
    except Exception as error:  # noqa: BLE001 - whatever a caller's object raises concerns this image alone
        return batcher.add_known(_unusable(error), label(image))
    load_it = partial(load_or_reason, accepted)
    loaded = await in_thread(load_it) if is_slow([accepted]) else load_it()
    if isinstance(loaded, Exception):
        return batcher.add_known(_unusable(loaded), label(image))
    return batcher.add(loaded, label(image))


def _unusable(error: Exception) -> Result:
    return failed_image(str(error) or type(error).__name__)


async def _prepared(images: Sequence[Accepted], build: Callable[[list[str | bytes]], Call[T]]) -> Call[T]:
    """The call for these images, built in a thread if it would block the event loop."""

    def prepare() -> Call[T]:
        return build([load(image) for image in images])

    return await in_thread(prepare) if is_slow(images) else prepare()
