"""The interface to whatever processes images and texts: plain values in, events out.

Everything that crosses it could be sent to another process: an operation is a frozen dataclass of options, a source is
bytes or a reference to them, and results are plain values as well. `ThreadEngine` works in this process; every
implementation has to pass tests/unit/engine/test_engine_conformance.py.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from mien.engine.cancellation import CancelScope
from mien.engine.sources import Item, Source
from mien.errors import Cancelled, DeadlineExceeded, MienError

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

SCOPE_ENDED = (Cancelled, DeadlineExceeded)
"""Errors that end the whole request instead of one item."""


class Operation(Generic[V_co]):
    """What to do with each item of a request: a frozen dataclass of plain options. `V_co`: the type of the result."""


@dataclass(frozen=True, slots=True)
class Partial(Generic[V_co]):
    """Part of an item's value, reported before the value is complete."""

    index: int
    value: V_co
    part: int
    """Counts from 0."""
    parts: int
    """How many there will be."""


@dataclass(frozen=True, slots=True)
class Done(Generic[V_co]):
    """An item's value."""

    index: int
    value: V_co
    read_seconds: float
    """Fetching the item and decoding its base64."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The error of one item; other items are not affected."""

    index: int
    error: MienError


Outcome: TypeAlias = Done[V_co] | Failed
Event: TypeAlias = Partial[V_co] | Done[V_co] | Failed

Report: TypeAlias = Callable[[Any, int, int], None]
"""Reports a partial value: the part, its index from 0, and the number of parts."""


class Handler(ABC):
    """Implements one kind of operation, where the models are."""

    async def prepare(self, operation: Any, sources: Sequence[Source]) -> None:  # noqa: B027 - optional
        """Called once per request, before it is admitted. Raises ModelUnavailable."""

    @contextmanager
    def begin(self, operation: Any, sources: Sequence[Source]) -> Iterator["Work"]:
        """For as long as one request runs: what to call in place of `work`. Whatever models that needs stay, also if
        they are unloaded or replaced meanwhile. Raises ModelUnavailable.
        """
        yield self.work

    @abstractmethod
    def work(self, item: Item, operation: Any, scope: CancelScope, report: Report | None) -> Any:
        """Apply the operation to one item. Blocks its thread. Reports partial values if `report` is given."""


Work: TypeAlias = Callable[[Item, Any, CancelScope, Report | None], Any]
"""As `Handler.work`."""
Handlers: TypeAlias = Mapping[type[Operation[Any]], Handler]


class Engine(Protocol):
    """Processes the items of requests, within its limits."""

    def run(
        self,
        operation: Operation[V],
        sources: Sequence[Source],
        scope: CancelScope,
        *,
        partials: bool = False,
        noun: str = "image",
    ) -> AsyncGenerator[Event[V], None]:
        """One outcome per source, in order of completion; with `partials`, parts of their values before that.

        `noun`: what error messages call a source. An error of one item becomes its outcome. Raises BodyTooLarge for too
        many sources, Overloaded, Unavailable, and DeadlineExceeded or Cancelled once the scope is over. Closing the
        generator before its end cancels the scope.
        """
        ...


async def outcomes(events: AsyncGenerator[Event[V], None], count: int) -> list[Outcome[V]]:
    """All outcomes in the order of their sources. Raises as `Engine.run` does."""
    found: list[Outcome[V] | None] = [None] * count
    async for event in events:
        if not isinstance(event, Partial):
            found[event.index] = event
    return [outcome for outcome in found if outcome is not None]
