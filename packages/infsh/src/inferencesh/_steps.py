"""What a flow may ask of the client that runs it. Flows decide, clients do the I/O.

A flow is a generator of steps. The client answers each step with its result, or throws an InferenceError into it.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from inferencesh._messages import Request
from inferencesh._status import Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; answered with its whole Response."""

    request: Request
    seconds: float
    """For all of it; where the body is a file, for each pause in it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait; answered with None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RunBlocking:
    """Work that blocks, such as reading files; answered with what it returns."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Gather:
    """Run flows side by side; answered with the list of their results, or with the first error."""

    flows: Sequence["Steps[Any]"]
    at_once: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Send a request and keep its connection; answered with a Response, whose body is there only if it is an error."""

    request: Request
    seconds: float
    """Until there is an answer."""
    lifetime: float | None = None
    """After which the connection is to be cut, whatever it says."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Some bytes of the connection, at least one; empty at its end."""

    seconds: float
    """The longest silence."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, if there is one."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand a task's new state to the caller."""

    update: Task


Step: TypeAlias = Send | Wait | RunBlocking | Gather | Connect | Receive | Disconnect | Emit
Steps: TypeAlias = Generator[Step, Any, T]
