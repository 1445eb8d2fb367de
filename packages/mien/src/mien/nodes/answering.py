"""One `Infer` stream at the node: requests are put together, run side by side and answered as they get ready."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

import grpc
import structlog

from mien.engine.cancellation import CancelScope
from mien.errors import DeadlineExceeded, InternalError, MienError, Overloaded, RequestError
from mien.inference.contract import InferRequest as Asked
from mien.inference.contract import InferResult, Service
from mien.nodes.catalog import SERVICE_KEY, choose
from mien.nodes.chunks import Head, Merger, Piece, Whole, split_result
from mien.nodes.items import unpack
from mien.nodes.mapping import in_band
from mien.nodes.proto.inference_pb2 import InferRequest, InferResponse

log = structlog.get_logger()

DISCARD_SECONDS, DISCARD_QUIET = 1.0, 0.05  # at most, in all; without a further message

Context: TypeAlias = "grpc.aio.ServicerContext[InferRequest, InferResponse]"


class Counter(Protocol):
    """Where answered requests are counted, by `ok` or error code."""

    def __call__(self, outcome: str) -> None: ...


@dataclass(slots=True)
class Limits:
    """What one node takes, and what it is busy with. Used from the event loop only."""

    max_requests: int
    """Requests running at once, over all streams."""
    max_bytes: int
    """Bytes of one payload."""
    max_held: int
    """Bytes of all payloads that are incomplete or being worked on."""
    max_result_chunk: int
    timeout: float
    """Seconds for a request whose caller sets no deadline."""
    idle: float
    """Seconds after which a stream ends on which nothing happens."""
    running: int = field(default=0, init=False)
    held: int = field(default=0, init=False)
    quiet: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while nothing runs."""

    def __post_init__(self) -> None:
        self.quiet.set()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Take one of the places. Raises Overloaded."""
        if self.running >= self.max_requests:
            raise Overloaded(f"this node runs {self.running} requests, its limit", retry_after=1.0)
        self.running += 1
        self.quiet.clear()
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self.quiet.set()

    def hold(self, size: int) -> None:
        """Take room for bytes that came; give it back with a negative size. Raises Overloaded."""
        if size > 0 and self.held and self.held + size > self.max_held:
            raise Overloaded(
                f"this node holds {self.held} bytes of payloads, {size} more are over its limit", retry_after=1.0
            )
        self.held += size


class Answering:
    """The life of one stream.

    A request that fails while it is the only one of its stream ends the stream with an exception, which becomes a gRPC
    status; if others are under way it gets a final message with an in-band error and they go on.
    """

    def __init__(
        self, services: Callable[[], Sequence[Service]], limits: Limits, context: Context, count: Counter
    ) -> None:
        self._services = services
        self._limits = limits
        self._context = context
        self._count = count
        self._merger = Merger(max_bytes=limits.max_bytes)
        self._writing = asyncio.Lock()
        self._answers: dict[asyncio.Task[None], CancelScope] = {}
        self._held = 0
        self._asked = 0

    async def run(self, messages: AsyncIterator[InferRequest]) -> None:
        """Answer until the caller is done. Raises MienError; CancelledError when the caller goes away."""
        reading: asyncio.Task[InferRequest | None] | None = asyncio.create_task(_next(messages))
        try:
            while reading is not None or self._answers:
                under_way = {*self._answers, *([] if reading is None else [reading])}
                quiet = None if self._answers else self._limits.idle
                done, _ = await asyncio.wait(under_way, timeout=quiet, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self._over_idle()
                    return
                for task in done - {reading}:
                    call = self._answers.pop(cast("asyncio.Task[None]", task))
                    call.cancel()  # over: whatever still looks at it may stop
                    task.result()
                if reading in done:
                    message = reading.result()
                    reading = None if message is None else asyncio.create_task(_next(messages))
                    self._take(message)
            if not self._asked:
                raise RequestError("the stream ended without a request")
        except MienError:
            await discard(messages, reading)
            raise
        finally:
            await self._end(reading)

    def _over_idle(self) -> None:
        if self._merger.incomplete:
            raise DeadlineExceeded(f"no further chunk of the request came for {self._limits.idle:g} s")

    def _take(self, message: InferRequest | None) -> None:
        if message is None:
            self._merger.require_complete()
            return
        size = len(message.payload)
        self._limits.hold(size)
        self._held += size
        head = Head(message.task, message.payload_mime, dict(message.meta))
        piece = Piece(message.payload, message.seq, message.total, message.offset)
        whole = self._merger.add(message.correlation_id, head, piece)
        if whole is not None:
            self._asked += 1
            remaining = self._context.time_remaining()
            call = CancelScope(self._limits.timeout if remaining is None else max(0.001, remaining))
            self._answers[asyncio.create_task(self._answer(whole, call))] = call

    async def _answer(self, whole: Whole, call: CancelScope) -> None:
        """Send everything that one request gets; raises what is to end the stream."""
        try:
            with self._limits.run():
                await self._infer(whole, call)
        except MienError as error:
            failure = error.without_frames()
        except Exception as error:
            log.error("request failed", task=whole.head.task, exc_info=error)
            failure = InternalError("the node failed on this request; its log has the details")
        else:
            self._count("ok")
            return
        finally:
            self._held -= len(whole.payload)
            self._limits.hold(-len(whole.payload))
        self._count(failure.code)
        if self._asked == 1 and not self._merger.incomplete:
            raise failure
        await self._send(in_band(failure, whole.correlation_id))

    async def _infer(self, whole: Whole, call: CancelScope) -> None:
        metadata = dict(whole.head.metadata)
        choice = choose(self._services(), whole.head.task, metadata.pop(SERVICE_KEY, ""))
        items = unpack(whole.payload, whole.head.mime)
        asked = Asked(items, choice.task, metadata, whole.correlation_id)
        final = False
        async with call.bounding(), aclosing(choice.service.infer(asked, call, stream=choice.stream)) as results:
            async for result in results:
                if not choice.stream and not result.is_final and result.total <= 1:
                    continue  # an early look that nobody asked for
                final = result.is_final
                for part in split_result(result.encoded(), self._limits.max_result_chunk):
                    await self._send(_message(part, whole.correlation_id))
                if final:
                    break
        if not final:
            raise InternalError(f"{choice.service.name} ended its answer without a final message")

    async def _send(self, message: InferResponse) -> None:
        async with self._writing:
            await self._context.write(message)

    async def _end(self, reading: "asyncio.Task[InferRequest | None] | None") -> None:
        """Whatever is under way is pointless now."""
        tasks: list[asyncio.Task[None] | asyncio.Task[InferRequest | None]] = list(self._answers)
        for call in self._answers.values():
            call.cancel()
        if reading is not None:
            tasks.append(reading)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._limits.hold(-self._held)  # of what never got to run


async def discard(
    messages: AsyncIterator[InferRequest], reading: "asyncio.Task[InferRequest | None] | None" = None
) -> None:
    """Read on for a moment before a call is refused: a sender that is cut off in mid-message never learns why."""
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


async def _next(messages: AsyncIterator[InferRequest]) -> InferRequest | None:
    return await anext(messages, None)


def _message(result: InferResult, correlation_id: str) -> InferResponse:
    return InferResponse(
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
