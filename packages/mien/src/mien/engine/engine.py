"""The seam behind which images and texts are worked on: plain values in, events out.

What crosses it can be sent to another process: an operation is a frozen dataclass of options, a source is bytes or says
where they are, and so are the values that come back. `ThreadEngine` does the work in this process;
tests/unit/engine/test_engine_conformance.py is what every implementation has to pass.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from mien.engine.cancellation import CancelScope
from mien.engine.sources import Item, Source
from mien.errors import Cancelled, DeadlineExceeded, MienError

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

SCOPE_ENDED = (Cancelled, DeadlineExceeded)
"""What ends the request as a whole: no single item failed, and nobody waits for any of them."""


class Operation(Generic[V_co]):
    """What is to be done with each item of a request: a frozen dataclass of plain options. `V_co`: what comes of it."""


@dataclass(frozen=True, slots=True)
class Early(Generic[V_co]):
    """Part of an item's value, as soon as it is known."""

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
    """An item that could not be used; its neighbours are not affected."""

    index: int
    error: MienError


Outcome: TypeAlias = Done[V_co] | Failed
Event: TypeAlias = Early[V_co] | Done[V_co] | Failed

Tell: TypeAlias = Callable[[Any, int, int], None]
"""Reports a part of a value: the part, its number from 0, and how many there will be."""


class Handler(ABC):
    """How one kind of operation is done, on the side of the seam where the models are."""

    async def prepare(self, operation: Any, sources: Sequence[Source]) -> None:  # noqa: B027 - most need nothing
        """Called once per request, before any of it is admitted. Raises ModelUnavailable."""

    @abstractmethod
    def work(self, item: Item, operation: Any, scope: CancelScope, tell: Tell | None) -> Any:
        """Does the operation with one item; blocks its thread. Reports parts where `tell` is given."""


Handlers: TypeAlias = Mapping[type[Operation[Any]], Handler]


class Engine(Protocol):
    """Works on the items of requests, within its limits."""

    def run(
        self,
        operation: Operation[V],
        sources: Sequence[Source],
        scope: CancelScope,
        *,
        early: bool = False,
        noun: str = "image",
    ) -> AsyncGenerator[Event[V], None]:
        """One outcome for each source, as they get done; with `early`, parts of their values before that.

        `noun`: what error messages call a source. Whatever is wrong with one item is its own outcome. Raises
        BodyTooLarge for too many sources, Overloaded, Unavailable, and DeadlineExceeded or Cancelled once the scope is
        over. Closing the generator before its end cancels the scope.
        """
        ...


async def outcomes(events: AsyncGenerator[Event[V], None], count: int) -> list[Outcome[V]]:
    """All outcomes in the order of their sources. Raises as `Engine.run` does."""
    found: list[Outcome[V] | None] = [None] * count
    async for event in events:
        if not isinstance(event, Early):
            found[event.index] = event
    return [outcome for outcome in found if outcome is not None]
