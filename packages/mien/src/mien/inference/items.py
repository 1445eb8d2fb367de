"""Payloads of one request: each worked on in a thread, isolated from the others, told about as it is done."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import orjson
import structlog

from mien.engine.admission import Admission
from mien.engine.call import Call
from mien.engine.pool import WorkerPool
from mien.errors import BodyTooLarge, InternalError, InvalidField, MienError
from mien.inference.contract import InferRequest, InferResult, Item
from mien.metrics import Metrics
from mien.settings import Api, Limits
from mien.zoo.on_demand import OnDemand

log = structlog.get_logger()
JSON = "application/json"
ENDS_THE_CALL = (499, 504)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one payload came to."""

    data: bytes
    """JSON of the service's schema."""
    meta: Mapping[str, str] = field(default_factory=dict)


Tell: TypeAlias = Callable[[Answer], None]
Work: TypeAlias = Callable[[Item, Tell | None], Answer]
"""Turns one payload into its answer, in a worker thread. Where given, it tells early looks at parts of it."""


@dataclass(frozen=True, slots=True)
class _Early:
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Done:
    index: int
    outcome: Answer | MienError


_Event: TypeAlias = _Early | _Done | None  # None: look at the call again


def to_json(value: Any) -> bytes:
    """JSON of dicts, lists and C-contiguous numpy arrays."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def milliseconds(seconds: float) -> str:
    """A duration as metadata gives it."""
    return f"{seconds * 1e3:.1f}"


def payload_refused(reason: str) -> InvalidField:
    """The error for a payload of the wrong kind."""
    message = f"payload: {reason}"
    return InvalidField(message, ({"type": "payload", "loc": ["payload"], "msg": message},))


class ItemWorkers:
    """What the built-in services share: threads, limits and counters."""

    def __init__(
        self, *, pool: WorkerPool, admission: Admission, limits: Limits, api: Api, metrics: Metrics, parallel: int
    ) -> None:
        """`parallel`: most payloads of one request in the worker threads at once, so that none starves others."""
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._parallel = parallel
        self.limits = limits
        self.api = api

    async def answers(
        self,
        schema: str,
        request: InferRequest,
        call: Call,
        work: Work,
        *,
        stream: bool,
        needs: Sequence[OnDemand[Any]] = (),
    ) -> AsyncGenerator[InferResult, None]:
        """The messages of an answer: with `stream` the parts as they come, then the whole.

        One payload: parts are what `work` tells early, and its error is raised. Several: parts are whole payloads'
        answers as they are done, and a failed one is an `{"error": {…}}` among its neighbours. Raises BodyTooLarge
        for too many payloads, Overloaded, Unavailable, and DeadlineExceeded or Cancelled when the call is over.
        Models that `work` needs and that are not here get a moment to come; `work` then raises where one did not.
        """
        count = len(request.items)
        if not count:
            raise payload_refused("the request has none")
        if count > self.limits.max_images:
            raise BodyTooLarge(f"{count} payloads in one request; this server takes at most {self.limits.max_images}")
        await asyncio.gather(*(need.settle() for need in needs))
        writer = _Writer(schema, count)
        outcomes: list[Answer | MienError | None] = [None] * count
        events: asyncio.Queue[_Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def post(event: _Event) -> None:
            # A thread may still tell something after the request, or the loop, has ended.
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        def wake() -> None:
            post(None)

        early = stream and count == 1
        turn = asyncio.Semaphore(self._parallel)
        with self._admission.work(count) as finished:

            async def one(index: int, item: Item) -> None:
                tell = (lambda answer: post(_Early(answer))) if early else None
                async with turn:
                    outcome = await self._isolated(item, call, work, tell)
                finished()
                post(_Done(index, outcome))

            call.subscribe(wake)
            tasks = [asyncio.create_task(one(index, item)) for index, item in enumerate(request.items)]
            try:
                left = count
                while left:
                    match await _next_event(events, call):
                        case _Early(answer):
                            yield writer.part(answer)
                        case _Done(index, outcome):
                            left -= 1
                            outcomes[index] = outcome
                            if isinstance(outcome, MienError) and (count == 1 or outcome.status in ENDS_THE_CALL):
                                raise outcome
                            if isinstance(outcome, MienError):
                                self._metrics.errors.labels(outcome.code).inc()
                            if stream and count > 1:
                                yield writer.item(index, outcome)
            finally:
                call.unsubscribe(wake)
                if not all(task.done() for task in tasks):
                    call.cancel()
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        yield writer.whole([outcome for outcome in outcomes if outcome is not None])

    async def _isolated(self, item: Item, call: Call, work: Work, tell: Tell | None) -> Answer | MienError:
        outcome: Answer | MienError
        try:
            outcome = await self._pool.run(call, work, item, tell)
        except MienError as error:
            if error.status >= 500 and error.status not in ENDS_THE_CALL:
                log.error("payload failed", code=error.code, exc_info=error)
            outcome = error.without_frames()
        except Exception as error:
            log.error("payload failed", exc_info=error)
            outcome = InternalError("the server failed on this payload; its log has the details")
        failed = isinstance(outcome, MienError)
        gave_up = isinstance(outcome, MienError) and outcome.status in ENDS_THE_CALL
        if item.mime.startswith("image/") and not gave_up:
            self._metrics.images.labels("failed" if failed else "done").inc()
        return outcome


async def _next_event(events: "asyncio.Queue[_Event]", call: Call) -> _Early | _Done:
    """The next event that says something. Raises what the call says when it is over, also while nothing happens."""
    while True:
        try:
            event = await asyncio.wait_for(events.get(), call.remaining())
        except TimeoutError:
            event = None
        if event is not None:
            return event
        call.check()


class _Writer:
    """Numbers the messages of one answer and puts the pieces together."""

    def __init__(self, schema: str, count: int) -> None:
        self._schema = schema
        self._count = count
        self._seq = 0

    def part(self, answer: Answer) -> InferResult:
        return self._message(answer.data, answer.meta, self._schema)

    def item(self, index: int, outcome: Answer | MienError) -> InferResult:
        meta = {"item": str(index), "items": str(self._count)}
        if isinstance(outcome, MienError):
            return self._message(error_json(outcome), meta, "")
        return self._message(outcome.data, {**outcome.meta, **meta}, self._schema)

    def whole(self, outcomes: list[Answer | MienError]) -> InferResult:
        if self._count == 1 and isinstance(outcomes[0], Answer):
            final = self._message(outcomes[0].data, outcomes[0].meta, self._schema)
        else:
            parts = [error_json(part) if isinstance(part, MienError) else part.data for part in outcomes]
            failed = sum(isinstance(part, MienError) for part in outcomes)
            meta = {"items": str(self._count), "failed": str(failed)}
            final = self._message(b"[" + b",".join(parts) + b"]", meta, "", list_of=self._schema)
        return replace(final, is_final=True, total=1 if final.seq == 0 else 0)

    def _message(self, data: bytes, meta: Mapping[str, str], schema: str, *, list_of: str = "") -> InferResult:
        mime = f"{JSON};schema={schema}" if schema else JSON
        message = InferResult(data, mime, schema or (f"{list_of}[]" if list_of else ""), meta, seq=self._seq)
        self._seq += 1
        return message


def error_json(error: MienError) -> bytes:
    """A failed payload among its neighbours: `{"error": {"code", "message"}}`."""
    return to_json({"error": {"code": error.code, "message": error.message}})
