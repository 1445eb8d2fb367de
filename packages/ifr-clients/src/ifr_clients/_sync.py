"""The client that blocks: what the core decides, done with sockets and threads."""

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from ifr_clients import _calls
from ifr_clients._base import BaseClient
from ifr_clients._calls import CompareOptions, DrawOptions, ExtractOptions
from ifr_clients._images import Image, Mode, accept, accept_all, load, load_or_reason
from ifr_clients._many import Batch, Batcher, BatchLimits, as_model, check_arguments, limits_of
from ifr_clients._messages import Call, Response
from ifr_clients._progress import Progress, Reporter, length_of, reporter
from ifr_clients._retry import Send, Wait
from ifr_clients._transport import SyncConnections, open_sync, send
from ifr_clients.errors import IFRError, IFRRejected
from ifr_clients.schemas import CompareResponse, ImageResponse, RecognitionResponse

T = TypeVar("T")


class IFRClient(BaseClient):
    """Client of an InsightFace-REST server that blocks until the answer is there.

    One client may be used by many threads; its connections are kept and shared. It connects on first use; after
    `close()`, too.
    """

    def _disconnected(self) -> None:
        self._lock = threading.Lock()
        self._http: SyncConnections | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back. May be called more than once."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    @overload
    def extract(
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
    def extract(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        *,
        raw_response: Literal[False],
        use_msgpack: bool = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> RecognitionResponse: ...

    def extract(
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
        loaded = [load(image) for image in images]
        call = _calls.extract(self._settings, loaded, options, msgpack=use_msgpack, raw=raw_response)
        return self._run(call, timeout)

    @overload
    def extract_many(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        use_msgpack: bool = True,
        raw_response: Literal[True] = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> Iterator[dict[str, Any]]: ...

    @overload
    def extract_many(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        use_msgpack: bool = True,
        raw_response: Literal[False],
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> Iterator[ImageResponse]: ...

    def extract_many(
        self,
        data: Iterable[Image],
        mode: Mode = "paths",
        batch_size: int | None = None,
        concurrency: int = 4,
        progress: bool | Progress = False,
        *,
        use_msgpack: bool = True,
        raw_response: bool = True,
        timeout: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> Iterator[dict[str, Any]] | Iterator[ImageResponse]:
        """The result of each image of a large collection, in order, as soon as it and all before it are there.

        Images are taken from `data` as they are needed: at most `2 × concurrency` batches are held at a time. A batch
        has `batch_size` images; None: the server's batch size, at least 16, within the server's limits.
        `concurrency` requests run at once. `progress=True` draws a line on stderr; a function is called with the
        number of images done and of all, None if `data` has no length. Files that cannot be read give a result with
        `status='error'`. The other arguments, results and errors are those of `extract`; `timeout` is per request.
        """
        check_arguments(batch_size, concurrency, mode)

        def extract(batch: Batch) -> list[Any]:
            answer: dict[str, Any] = {"data": []}
            if batch.images:
                try:
                    answer = self.extract(batch.images, mode, use_msgpack=use_msgpack, timeout=timeout, **options)
                except IFRRejected as error:
                    answer = batch.stand_in(error)
            results = batch.results(answer)
            return results if raw_response else [as_model(result) for result in results]

        return self._stream(data, mode, batch_size, concurrency, reporter(progress), extract)

    @overload
    def compare(
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
    def compare(
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

    def compare(
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
        loaded = [load(image) for image in images]
        call = _calls.compare(self._settings, loaded, options, msgpack=use_msgpack, raw=raw_response)
        return self._run(call, timeout)

    def draw(
        self, image: Image, mode: Mode = "paths", *, timeout: float | None = None, **options: Unpack[DrawOptions]
    ) -> bytes:
        """The image with its faces drawn in, as JPEG.

        `draw_landmarks`, `draw_scores` and `draw_sizes` are on unless turned off. Raises as `compare`.
        """
        call = _calls.draw(self._settings, [load(accept(image, mode, "image"))], options)
        return self._run(call, timeout)

    def health(self, *, timeout: float | None = None) -> dict[str, Any]:
        """`{'status': 'ok'}` from a server that finds faces. Raises IFRRejected if it says that it does not."""
        return self._run(_calls.health(self._settings), timeout)

    def server_info(
        self, server: str | None = None, show: bool = True, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Models, defaults and limits of the server, or of another one at the URL `server`; printed if `show`.

        The API key and headers of this client stay with its own server.
        """
        call = _calls.server_info(self._settings, server)
        info = self._run(call, timeout)
        if show:
            sys.stdout.write(_calls.describe(call.request.url.removesuffix("/info"), info))
        return info

    def _run(self, call: Call[T], timeout: float | None) -> T:
        steps = self._course(call, timeout)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Wait):
                    time.sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    response = self._send(step)
                except IFRError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, step: Send) -> Response:
        with self._lock:
            if self._http is None:
                self._http = open_sync(self._settings)
                weakref.finalize(self, self._http.close)  # many programs never close their client
            http = self._http
        return send(http, step)

    def _stream(
        self,
        data: Iterable[Image],
        mode: Mode,
        batch_size: int | None,
        concurrency: int,
        report: Reporter,
        extract: Callable[[Batch], list[Any]],
    ) -> Iterator[Any]:
        limits = BatchLimits(batch_size) if batch_size else limits_of(self.server_info(show=False))
        total, done = length_of(data), 0
        batches = _batches(data, mode, limits)
        running: deque[Future[list[Any]]] = deque()
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ifr-clients")
        try:
            while True:
                while len(running) < 2 * concurrency and (batch := next(batches, None)) is not None:
                    running.append(pool.submit(extract, batch))
                    del batch
                if not running:
                    return
                for result in running.popleft().result():
                    done += 1
                    report(done, total)
                    yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            report.finish(done, total)


def _batches(data: Iterable[Image], mode: Mode, limits: BatchLimits) -> Iterator[Batch]:
    batcher = Batcher(limits)
    for position, image in enumerate(data):
        if batch := batcher.add(load_or_reason(accept(image, mode, f"image {position}"))):
            yield batch
    if batch := batcher.flush():
        yield batch
