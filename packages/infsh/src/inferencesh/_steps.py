"""The steps that a flow can yield. Flows decide, clients do the I/O.

A flow is a generator of steps. The client sends each step's result into it, or throws an InferenceError.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from inferencesh._messages import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; the result is its complete Response."""

    request: Request
    seconds: float
    """Total timeout; for bodies that are files, the longest time without progress."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait; the result is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RunBlocking:
    """Blocking work, such as reading files; the result is what it returns."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Gather:
    """Run flows concurrently; the result is the list of their results, or the first error."""

    flows: Sequence["Steps[Any]"]
    at_once: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Send a request and keep its connection open; the result is a Response, with a body only if it is an error."""

    request: Request
    seconds: float
    """Timeout until the response starts."""
    lifetime: float | None = None
    """Time after which the connection is closed in any case."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Read some bytes of the connection, at least one; empty at its end."""

    seconds: float
    """The longest silence."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, if it is open."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Pass something to the caller, such as a task's new state."""

    update: Any


Step: TypeAlias = Send | Wait | RunBlocking | Gather | Connect | Receive | Disconnect | Emit
Steps: TypeAlias = Generator[Step, Any, T]
