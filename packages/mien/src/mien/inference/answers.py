"""The messages of a service's answer, from what the engine makes of the request's payloads."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Early, Engine, Failed, Operation
from mien.errors import MienError
from mien.inference.contract import InferRequest, InferResult, Json
from mien.inference.images import payload_refused
from mien.metrics import Metrics

JSON = "application/json"
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one payload, or a part of it, came to."""

    value: Any
    """In the service's schema."""
    meta: Mapping[str, str] = field(default_factory=dict)


def milliseconds(seconds: float) -> str:
    """A duration as metadata gives it."""
    return f"{seconds * 1e3:.1f}"


class Answers:
    """Asks the engine on behalf of the built-in services."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def messages(
        self,
        schema: str,
        request: InferRequest,
        scope: CancelScope,
        operation: Operation[V],
        answer: Callable[[Early[V] | Done[V]], Answer],
        *,
        stream: bool,
    ) -> AsyncGenerator[InferResult, None]:
        """With `stream` the parts as they come, then the whole. `answer` puts a value into the service's schema.

        One payload: parts are those of its value, and its error is raised. Several: parts are whole payloads' answers
        as they are done, and a failed one is an `{"error": {…}}` among its neighbours. Raises InvalidField for a
        request without payloads, else as Engine.run does.
        """
        count = len(request.items)
        if not count:
            raise payload_refused("the request has none")
        numbered = _Numbered(schema, count)
        outcomes: list[Answer | MienError] = [_PENDING] * count
        events = self._engine.run(operation, request.items, scope, early=stream and count == 1, noun="payload")
        try:
            async for event in events:
                match event:
                    case Early():
                        yield numbered.part(answer(event))
                    case Failed(_, error) if count == 1:
                        raise error
                    case Failed(index, error):
                        self._metrics.errors.labels(error.code).inc()
                        outcomes[index] = error
                    case Done(index):
                        outcomes[index] = answer(event)
                if stream and count > 1 and not isinstance(event, Early):
                    yield numbered.item(event.index, outcomes[event.index])
        finally:
            await events.aclose()  # not later, by the garbage collector: it cancels the work of those who stop asking
        yield numbered.whole(outcomes)


_PENDING = Answer(None)


class _Numbered:
    """Numbers the messages of one answer and puts the pieces together."""

    def __init__(self, schema: str, count: int) -> None:
        self._schema = schema
        self._count = count
        self._seq = 0

    def part(self, answer: Answer) -> InferResult:
        return self._message(answer.value, answer.meta, self._schema)

    def item(self, index: int, outcome: Answer | MienError) -> InferResult:
        meta = {"item": str(index), "items": str(self._count)}
        if isinstance(outcome, MienError):
            return self._message(_error(outcome), meta, "")
        return self._message(outcome.value, {**outcome.meta, **meta}, self._schema)

    def whole(self, outcomes: list[Answer | MienError]) -> InferResult:
        if self._count == 1 and isinstance(outcomes[0], Answer):
            final = self._message(outcomes[0].value, outcomes[0].meta, self._schema)
        else:
            values = [_error(outcome) if isinstance(outcome, MienError) else outcome.value for outcome in outcomes]
            failed = sum(isinstance(outcome, MienError) for outcome in outcomes)
            meta = {"items": str(self._count), "failed": str(failed)}
            final = self._message(values, meta, "", list_of=self._schema)
        return replace(final, is_final=True, total=1 if final.seq == 0 else 0)

    def _message(self, value: Any, meta: Mapping[str, str], schema: str, *, list_of: str = "") -> InferResult:
        mime = f"{JSON};schema={schema}" if schema else JSON
        schema = schema or (f"{list_of}[]" if list_of else "")
        message = InferResult(mime=mime, schema=schema, meta=meta, seq=self._seq, value=Json(value))
        self._seq += 1
        return message


def _error(error: MienError) -> dict[str, Any]:
    """A failed payload among its neighbours."""
    return {"error": {"code": error.code, "message": error.message}}
