"""One `Infer` stream of a client: its requests are reassembled, run concurrently and answered as they finish."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

import grpc.aio
import structlog

from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.errors import DeadlineExceeded, InternalError, MienError, Overloaded, RequestError
from mien.inference.contract import InferRequest, InferResult, Item, Service
from mien.nodes.choice import choose
from mien.nodes.chunks import Chunk, CompleteRequest, Head, Merger, split_result
from mien.nodes.contract import SERVICE_KEY
from mien.nodes.items import unpack
from mien.nodes.mapping import in_band
from mien.nodes.proto import inference_pb2 as pb
from mien.nodes.wire import Malformed, well_formed
from mien.quotas import Quotas

log = structlog.get_logger()

SMOOTHING = 0.1  # weight of the newest request in the moving average
DISCARD_SECONDS, DISCARD_QUIET = 1.0, 0.05  # at most in all; until no further message arrives

Received: TypeAlias = pb.InferRequest | Malformed
Context: TypeAlias = "grpc.aio.ServicerContext[pb.InferRequest, pb.InferResponse]"


class Counter(Protocol):
    """Counts answered requests by outcome: `ok` or an error code."""

    def __call__(self, outcome: str) -> None: ...


@dataclass(slots=True)
class Limits:
    """The limits of this node over all its streams, and its current load. Used from the event loop only."""

    max_requests: int
    """Requests running at once; further ones wait for their turn."""
    max_waiting: int
    max_bytes: int
    """Bytes of one payload."""
    admission: Admission
    """Counts the bytes of payloads that are incomplete or being processed, together with the bodies of HTTP."""
    max_result_chunk: int
    timeout: float
    """Seconds for a request whose client sets no deadline."""
    idle: float
    """Seconds without a message or a running request after which a stream is ended."""
    running: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    quiet: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while nothing runs or waits."""
    _slots: asyncio.Semaphore = field(init=False)
    _seconds: float = field(default=0.0, init=False)
    """Moving average of what a request takes."""

    def __post_init__(self) -> None:
        self.quiet.set()
        self._slots = asyncio.Semaphore(self.max_requests)  # first come, first served

    @asynccontextmanager
    async def run(self, scope: CancelScope) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises Overloaded, DeadlineExceeded, Cancelled."""
        if self._slots.locked() and self.waiting >= self.max_waiting:
            raise Overloaded(
                f"this node runs {self.running} requests and {self.waiting} wait, its limit",
                retry_after=max(1.0, math.ceil(self.waiting * self._seconds / self.max_requests)),
            )
        self.quiet.clear()
        try:
            await self._turn(scope)
            self.running += 1
            began = time.monotonic()
            try:
                yield
            finally:
                self._seconds += SMOOTHING * (time.monotonic() - began - self._seconds)
                self.running -= 1
                self._slots.release()
        finally:
            if not self.running and not self.waiting:
                self.quiet.set()

    async def _turn(self, scope: CancelScope) -> None:
        self.waiting += 1
        try:
            async with scope.bounding():
                await self._slots.acquire()
        finally:
            self.waiting -= 1


class InferStream:
    """Answers the requests of one stream.

    A request that fails as the only one of its stream ends the stream with an exception, which becomes a gRPC status.
    If there are others, it gets a final message with an in-band error, and the others go on.
    """

    def __init__(
        self,
        services: Callable[[], Sequence[Service]],
        limits: Limits,
        context: Context,
        count: Counter,
        owner: str,
        quotas: Quotas | None,
    ) -> None:
        """`owner`: whose requests these are, and count into its quotas."""
        self._services = services
        self._limits = limits
        self._context = context
        self._count = count
        self._owner = owner
        self._quotas = quotas
        self._merger = Merger(max_bytes=limits.max_bytes)
        self._writing = asyncio.Lock()
        self._running: dict[asyncio.Task[None], CancelScope] = {}
        self._held = 0
        self._requests = 0

    async def run(self, messages: AsyncIterator[Received]) -> None:
        """Answer until the client is done. Raises MienError; CancelledError when the client disconnects."""
        reading: asyncio.Task[Received | None] | None = asyncio.create_task(_next(messages))
        try:
            while reading is not None or self._running:
                under_way = {*self._running, *([] if reading is None else [reading])}
                idle = None if self._running else self._limits.idle
                done, _ = await asyncio.wait(under_way, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self._ran_idle()
                    return
                for task in done - {reading}:
                    scope = self._running.pop(cast("asyncio.Task[None]", task))
                    scope.cancel()  # what still works for the request can stop
                    task.result()
                if reading in done:
                    message = reading.result()
                    reading = None if message is None else asyncio.create_task(_next(messages))
                    self._receive(message)
            if not self._requests:
                raise RequestError("the stream ended without a request")
        except MienError:
            await discard(messages, reading)
            raise
        finally:
            await self._end(reading)

    def _ran_idle(self) -> None:
        if self._merger.incomplete:
            raise DeadlineExceeded(f"no further chunk of the request arrived for {self._limits.idle:g} s")

    def _receive(self, received: Received | None) -> None:
        if received is None:
            self._merger.require_complete()
            return
        message = well_formed(received)
        size = len(message.payload)
        self._limits.admission.reserve(size)
        self._held += size
        head = Head(message.task, message.payload_mime, dict(message.meta))
        chunk = Chunk(message.payload, message.seq, message.total, message.offset)
        request = self._merger.add(message.correlation_id, head, chunk)
        if request is not None:
            self._requests += 1
            remaining = self._context.time_remaining()
            scope = CancelScope(self._limits.timeout if remaining is None else max(0.001, remaining))
            self._running[asyncio.create_task(self._answer(request, scope))] = scope

    async def _answer(self, request: CompleteRequest, scope: CancelScope) -> None:
        """Send the response to one request. Raises what is to end the stream."""
        try:
            items = unpack(request.payload, request.head.mime)
            # Before it waits for its turn: what is over a quota must not keep others waiting.
            with self._counted(len(items)):
                async with self._limits.run(scope):
                    await self._infer(request, items, scope)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is answered and the stream goes on
            failure = failure_of(error, "request failed", task=request.head.task)
        else:
            self._count("ok")
            return
        finally:
            self._held -= len(request.payload)
            self._limits.admission.release(len(request.payload))
        self._count(failure.code)
        if self._requests == 1 and not self._merger.incomplete:
            raise failure
        await self._send(in_band(failure, request.correlation_id))

    def _counted(self, items: int) -> AbstractContextManager[None]:
        """Counts a request into its owner's quotas. Raises QuotaExceeded."""
        if self._quotas is None:
            return nullcontext()
        self._quotas.count_request(self._owner)
        return self._quotas.images(self._owner, items)

    async def _infer(self, request: CompleteRequest, items: tuple[Item, ...], scope: CancelScope) -> None:
        metadata = dict(request.head.metadata)
        choice = choose(self._services(), request.head.task, metadata.pop(SERVICE_KEY, ""))
        asked = InferRequest(items, choice.task, metadata, request.correlation_id, self._owner)
        final = False
        async with scope.bounding(), aclosing(choice.service.infer(asked, scope, stream=choice.stream)) as results:
            async for result in results:
                if not choice.stream and not result.is_final and result.total <= 1:
                    continue  # a partial result, which this client did not ask for
                final = result.is_final
                for part in split_result(await result.encoded(), self._limits.max_result_chunk):
                    await self._send(_message(part, request.correlation_id))
                if final:
                    break
        if not final:
            raise InternalError(f"{choice.service.name} ended its response without a final message")

    async def _send(self, message: pb.InferResponse) -> None:
        async with self._writing:
            try:
                await self._context.write(message)
            except grpc.aio.InternalError:  # the call is over, by its deadline or its client
                raise asyncio.CancelledError from None

    async def _end(self, reading: "asyncio.Task[Received | None] | None") -> None:
        """Cancel what still runs: there is nobody to answer any more."""
        tasks: list[asyncio.Task[None] | asyncio.Task[Received | None]] = list(self._running)
        for scope in self._running.values():
            scope.cancel()
        if reading is not None:
            tasks.append(reading)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._limits.admission.release(self._held)  # of requests that never ran


def failure_of(error: Exception, event: str, **context: str) -> MienError:
    """What a client gets of an error. One that is not a MienError is a bug: it is logged as `event`, and hidden."""
    if isinstance(error, MienError):
        return error.without_frames()
    log.error(event, exc_info=error, **context)
    return InternalError("the node failed on this request; its log has the details")


async def discard(messages: AsyncIterator[Received], reading: "asyncio.Task[Received | None] | None" = None) -> None:
    """Read on for a moment before a call is refused: a client that is cut off while it sends never sees the status."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DISCARD_SECONDS
    while True:
        reading = reading or asyncio.create_task(_next(messages))
        done, _ = await asyncio.wait({reading}, timeout=DISCARD_QUIET)
        if not done:
            reading.cancel()
        if not done or reading.exception() is not None or reading.result() is None or loop.time() > end:
            return
        reading = None


async def _next(messages: AsyncIterator[Received]) -> Received | None:
    return await anext(messages, None)


def _message(result: InferResult, correlation_id: str) -> pb.InferResponse:
    return pb.InferResponse(
        correlation_id=correlation_id,
        is_final=result.is_final,
        result=result.data,
        meta=dict(result.meta),
        seq=result.seq,
        total=result.total or (1 if result.is_final else 0),
        offset=result.offset,
        result_mime=result.mime,
        result_schema=result.schema,
    )
