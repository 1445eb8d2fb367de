"""Runs a service's operation on the payloads of a request and turns the engine's events into result messages."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Engine, Failed, Operation, Partial
from mien.errors import MienError
from mien.inference.contract import InferRequest, InferResult, Json
from mien.inference.images import payload_refused
from mien.metrics import Metrics

JSON = "application/json"
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one payload, or a part of it."""

    value: Any
    """In the service's schema."""
    meta: Mapping[str, str] = field(default_factory=dict)


def milliseconds(seconds: float) -> str:
    """A duration as it is written in metadata."""
    return f"{seconds * 1e3:.1f}"


class OperationRunner:
    """Runs operations on the engine for the built-in services."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def results(
        self,
        schema: str,
        request: InferRequest,
        scope: CancelScope,
        operation: Operation[V],
        to_result: Callable[[Partial[V] | Done[V]], ItemResult],
        *,
        stream: bool,
    ) -> AsyncGenerator[InferResult, None]:
        """The messages of the response: with `stream` partial results first, then the complete one.

        `to_result` converts a value to the service's schema. For a single payload, partial results are parts of its
        value, and its error is raised. For several, they are the results of whole payloads in order of completion, and
        a failed one becomes `{"error": {…}}` in their place. Raises InvalidField for a request without payloads, else
        what Engine.run raises.
        """
        count = len(request.items)
        if not count:
            raise payload_refused("the request contains none")
        messages = _Messages(schema, count)
        outcomes: list[ItemResult | MienError] = [_PENDING] * count
        events = self._engine.run(operation, request.items, scope, partials=stream and count == 1, noun="payload")
        try:
            async for event in events:
                match event:
                    case Partial():
                        yield messages.part(to_result(event))
                    case Failed(_, error) if count == 1:
                        raise error
                    case Failed(index, error):
                        self._metrics.errors.labels(error.code).inc()
                        outcomes[index] = error
                    case Done(index):
                        outcomes[index] = to_result(event)
                if stream and count > 1 and not isinstance(event, Partial):
                    yield messages.item(event.index, outcomes[event.index])
        finally:
            # Explicitly, not whenever the garbage collector gets to it: closing cancels the work of a request whose
            # client has disconnected.
            await events.aclose()
        yield messages.whole(outcomes)


_PENDING = ItemResult(None)


class _Messages:
    """Builds the messages of one response and numbers them."""

    def __init__(self, schema: str, count: int) -> None:
        self._schema = schema
        self._count = count
        self._seq = 0

    def part(self, result: ItemResult) -> InferResult:
        return self._message(result.value, result.meta, self._schema)

    def item(self, index: int, outcome: ItemResult | MienError) -> InferResult:
        meta = {"item": str(index), "items": str(self._count)}
        if isinstance(outcome, MienError):
            return self._message(_error(outcome), meta, "")
        return self._message(outcome.value, {**outcome.meta, **meta}, self._schema)

    def whole(self, outcomes: list[ItemResult | MienError]) -> InferResult:
        if self._count == 1 and isinstance(outcomes[0], ItemResult):
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
    """A failed payload, in place of its result."""
    return {"error": {"code": error.code, "message": error.message}}
