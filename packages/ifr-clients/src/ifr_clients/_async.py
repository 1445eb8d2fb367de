"""The client for asyncio: what the core decides, done on the event loop."""
# ruff: noqa: ASYNC109 - `timeout` bounds a call with its tries, as in the client that blocks

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from ifr_clients import _calls
from ifr_clients._base import BaseClient
from ifr_clients._calls import CompareOptions, DrawOptions, ExtractOptions
from ifr_clients._images import Accepted, Image, Mode, accept, accept_all, is_slow, load, load_or_reason
from ifr_clients._many import Batch, Batcher, BatchLimits, as_model, check_arguments, limits_of
from ifr_clients._messages import Call
from ifr_clients._progress import Progress, Reporter, length_of, reporter
from ifr_clients._retry import Wait
from ifr_clients._transport import AsyncConnections, open_async, send_async
from ifr_clients.errors import IFRError, IFRRejected
from ifr_clients.schemas import CompareResponse, ImageResponse, RecognitionResponse

T = TypeVar("T")


class IFRClientAsync(BaseClient):
    """Client of an InsightFace-REST server for asyncio.

    `async with` it, or `await start()` and `close()` it; it starts itself on first use. One client serves any number
    of tasks of one event loop; in another loop it starts anew.
    """

    def _disconnected(self) -> None:
        self._http: AsyncConnections | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Make ready to connect. Needless, but for code that was written for clients that need it."""
        self._connections()

    async def close(self) -> None:
        """Give the connections back. May be called more than once; the next call starts anew."""
        http, self._http = self._http, None
        if http is not None and self._loop is asyncio.get_running_loop():
            await http.aclose()

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
    ) -> dict[str, Any] | RecognitionResponse:
        """Faces of each image, in the order of the images.

        `mode='paths'`: URLs, or paths on the server. `mode='data'`: bytes, pathlib.Path, base64 text, data: URIs.
        Returns the answer as a dict, or with `raw_response=False` as a model whose `data` has one entry per image;
        face crops are JPEG bytes in both. An image that fails says so in its `status`. `timeout` is in seconds.
        Raises ValueError if data and mode do not match, OSError if a file cannot be read, IFRError for the rest.
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
        }
        build = partial(_calls.extract, self._settings, options=options, msgpack=use_msgpack, raw=raw_response)
        call = await _prepared(images, build)
        return await self._run(call, timeout)

    @overload
    def extract_many(
        self,
        data: Iterable[Image] | AsyncIterable[Image],
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        use_msgpack: bool = True,
        raw_response: Literal[True] = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[dict[str, Any]]: ...

    @overload
    def extract_many(
        self,
        data: Iterable[Image] | AsyncIterable[Image],
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        use_msgpack: bool = True,
        raw_response: Literal[False],
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[ImageResponse]: ...

    def extract_many(
        self,
        data: Iterable[Image] | AsyncIterable[Image],
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        use_msgpack: bool = True,
        raw_response: bool = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[dict[str, Any]] | AsyncIterator[ImageResponse]:
        """The result of each image of a large collection, in order, as soon as it and all before it are there.

        Images are taken from `data` as they are needed: at most `2 × concurrency` batches are held at a time. A batch
        has `batch_size` images; None: the server's batch size, at least 16, within the server's limits.
        `concurrency` requests run at once. `progress=True` draws a line on stderr; a function is called with the
        number of images done and of all, None if `data` has no length. Files that cannot be read give a result with
        `status='error'`. The other arguments, results and errors are those of `extract`; `timeout` is per request.
        """
        check_arguments(batch_size, concurrency, mode)

        async def extract(batch: Batch) -> list[Any]:
            answer: dict[str, Any] = {"data": []}
            if batch.images:
                try:
                    answer = await self.extract(batch.images, mode, use_msgpack=use_msgpack, timeout=timeout, **options)
                except IFRRejected as error:
                    answer = batch.stand_in(error)
            results = batch.results(answer)
            return results if raw_response else [as_model(result) for result in results]

        return self._stream(data, mode, batch_size, concurrency, reporter(progress), extract)

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
    ) -> dict[str, Any] | CompareResponse:
        """How alike each face of the first image is to each of the second: cosines, and whether they are the same.

        Mien answers this; an original server does not know the route. Raises as `extract`, and IFRRejected if an image
        cannot be used.
        """
        images = [accept(first, mode, "first"), accept(second, mode, "second")]
        options: CompareOptions = {
            "threshold": threshold,
            "limit_faces": limit_faces,
            "min_face_size": min_face_size,
            "detect_masks": detect_masks,
            "img_req_headers": img_req_headers,
        }
        build = partial(_calls.compare, self._settings, options=options, msgpack=use_msgpack, raw=raw_response)
        call = await _prepared(images, build)
        return await self._run(call, timeout)

    async def draw(
        self, image: Image, mode: Mode = "paths", *, timeout: float | None = None, **options: Unpack[DrawOptions]
    ) -> bytes:
        """The image with its faces drawn in, as JPEG.

        `draw_landmarks`, `draw_scores` and `draw_sizes` are on unless turned off. Raises as `compare`.
        """
        build = partial(_calls.draw, self._settings, options=options)
        call = await _prepared([accept(image, mode, "image")], build)
        return await self._run(call, timeout)

    async def health(self, *, timeout: float | None = None) -> dict[str, Any]:
        """`{'status': 'ok'}` from a server that finds faces. Raises IFRRejected if it says that it does not."""
        return await self._run(_calls.health(self._settings), timeout)

    async def server_info(
        self, server: str | None = None, show: bool = True, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Models, defaults and limits of the server, or of another one at the URL `server`; printed if `show`.

        The API key and headers of this client stay with its own server.
        """
        call = _calls.server_info(self._settings, server)
        info = await self._run(call, timeout)
        if show:
            sys.stdout.write(_calls.describe(call.request.url.removesuffix("/info"), info))
        return info

    def _connections(self) -> AsyncConnections:
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            self._http, self._loop = open_async(self._settings), loop
        return self._http

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        steps = self._course(call, timeout)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    response = await send_async(self._connections(), step)
                except IFRError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _stream(
        self,
        data: Iterable[Image] | AsyncIterable[Image],
        mode: Mode,
        batch_size: int | None,
        concurrency: int,
        report: Reporter,
        extract: Callable[[Batch], Awaitable[list[Any]]],
    ) -> AsyncIterator[Any]:
        limits = BatchLimits(batch_size) if batch_size else limits_of(await self.server_info(show=False))
        total, done = length_of(data), 0
        batches = _batches(data, mode, limits)
        free = asyncio.Semaphore(concurrency)
        running: deque[asyncio.Task[list[Any]]] = deque()

        async def work(batch: Batch) -> list[Any]:
            async with free:
                return await extract(batch)

        try:
            while True:
                while len(running) < 2 * concurrency and (batch := await anext(batches, None)) is not None:
                    running.append(asyncio.create_task(work(batch)))
                    del batch
                if not running:
                    return
                for result in await running.popleft():
                    done += 1
                    report(done, total)
                    yield result
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            report.finish(done, total)


async def _batches(
    data: Iterable[Image] | AsyncIterable[Image], mode: Mode, limits: BatchLimits
) -> AsyncIterator[Batch]:
    batcher = Batcher(limits)
    position = 0
    async for image in _each(data):
        accepted = accept(image, mode, f"image {position}")
        position += 1
        loaded = await asyncio.to_thread(load_or_reason, accepted) if is_slow([accepted]) else load_or_reason(accepted)
        if batch := batcher.add(loaded):
            yield batch
    if batch := batcher.flush():
        yield batch


async def _each(data: Iterable[Image] | AsyncIterable[Image]) -> AsyncIterator[Image]:
    if isinstance(data, AsyncIterable):
        async for image in data:
            yield image
    else:
        for image in data:
            yield image


async def _prepared(images: Sequence[Accepted], build: Callable[[list[str | bytes]], Call[T]]) -> Call[T]:
    """The call about these images, made in a thread where that would hold up the event loop."""

    def prepare() -> Call[T]:
        return build([load(image) for image in images])

    return await asyncio.to_thread(prepare) if is_slow(images) else prepare()
