"""Asking for anything by name: what a request is, what comes back, what a service is."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import orjson

from mien.engine.cancellation import CancelScope
from mien.engine.sources import Item

__all__ = ["InferRequest", "InferResult", "Item", "Json", "Service", "TaskInfo"]


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
class Json:
    """A value that is JSON on the wire: dicts, lists, strings, numbers and C-contiguous numpy arrays."""

    value: Any

    def encode(self) -> bytes:
        """As JSON text; float32 with as many digits as it needs, not as many as its float64 would."""
        return orjson.dumps(self.value, option=orjson.OPT_SERIALIZE_NUMPY)

    def plain(self) -> Any:
        """As a JSON decoder would give it: arrays as lists of the numbers that `encode` writes."""
        return _plain(self.value)


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case np.ndarray() | np.generic():
            return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
        case _:
            return value


@dataclass(frozen=True, slots=True)
class InferResult:
    """One message of an answer. The final one holds the whole result, those before it early looks at parts of it."""

    data: bytes = b""
    """The encoded result; empty while there is a `value`."""
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
    value: Json | None = None
    """The result of a service in this process, which whoever puts it on a wire encodes."""

    def encoded(self) -> "InferResult":
        """The same message with its result in `data`."""
        return self if self.value is None else replace(self, data=self.value.encode(), value=None)


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

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        """The answer's messages; the last and only the last has `is_final`.

        `stream`: the caller wants parts as they come; without it there may be the final message alone.
        Raises MienError, at the call or between messages; closing the generator cancels `scope`.
        """
        ...
