"""Asking for anything by name: what a request is, what comes back, what a service is."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mien.engine.call import Call


@dataclass(frozen=True, slots=True)
class Item:
    """One payload: an image, a text, or whatever the service takes."""

    data: bytes
    mime: str
    """Its bare media type, sniffed or declared, e.g. `image/jpeg`, `text/plain`."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a service is asked."""

    items: tuple[Item, ...]
    """At least one. Several only where the caller sent a batch."""
    task: str = ""
    """Selects a model of the service; empty: its default."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class InferResult:
    """One message of an answer. The final one holds the whole result, those before it early looks at parts of it."""

    data: bytes = b""
    mime: str = ""
    """E.g. `application/json;schema=face_v1`: clients compare it as a string."""
    schema: str = ""
    """E.g. `face_v1`."""
    meta: Mapping[str, str] = field(default_factory=dict)
    is_final: bool = False
    seq: int = 0
    total: int = 0
    """Number of messages, where it is known beforehand and `data` is one piece of one result; 0 otherwise."""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task of a service, as it is advertised."""

    name: str
    input_mimes: tuple[str, ...]
    output_mimes: tuple[str, ...]
    model: str = ""
    aliases: tuple[str, ...] = ()
    """Further names under which requests and older clients know it."""
    limits: Mapping[str, str] = field(default_factory=dict)


class Service(Protocol):
    """Something that can be asked for by name: built in, an app, or on another node."""

    @property
    def name(self) -> str:
        """Lower case, e.g. `face_detection`."""
        ...

    def tasks(self) -> Sequence[TaskInfo]:
        """Its tasks; the first is the default."""
        ...

    def infer(self, request: InferRequest, call: Call, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        """The answer's messages; the last and only the last has `is_final`.

        `stream`: the caller wants parts as they come; without it there may be the final message alone.
        Raises MienError, at the call or between messages; closing the generator cancels `call`.
        """
        ...
