"""The contract of inference services: requests, result messages, tasks."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import orjson

from mien.engine.cancellation import CancelScope
from mien.engine.sources import Item
from mien.keys import DEFAULT_OWNER

__all__ = ["InferRequest", "InferResult", "Item", "Json", "Service", "TaskInfo"]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request to a service."""

    items: tuple[Item, ...]
    """The payloads: at least one, several only if the client sent a batch."""
    task: str = ""
    """Name or alias of a task of the service; empty: its default task."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str = ""
    owner: str = DEFAULT_OWNER
    """Whose request it is: see `mien.keys.Key.owner`."""


LARGE_VALUE = 20_000
"""Values. Encoding so many takes about half a millisecond."""


@dataclass(frozen=True, slots=True)
class Json:
    """A value that is JSON on the wire: dicts, lists, strings, numbers and C-contiguous numpy arrays."""

    value: Any

    def encode(self) -> bytes:
        """As JSON text. A float32 is written with the digits that it needs, not with those of its float64."""
        return orjson.dumps(self.value, option=orjson.OPT_SERIALIZE_NUMPY)

    def is_large(self) -> bool:
        """Whether encoding it would block the event loop for too long."""
        left, unseen = LARGE_VALUE, [self.value]
        while unseen and left >= 0:
            match unseen.pop():
                case dict() as fields:
                    unseen.extend(fields.values())
                    left -= len(fields)
                case list() as items:
                    left -= len(items)
                    unseen.extend(items if left >= 0 else ())
                case np.ndarray() as array:
                    left -= array.size
                case _:
                    pass
        return left < 0

    def plain(self) -> Any:
        """As a JSON decoder would return it: arrays become lists of the numbers that `encode` writes."""
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
    """One message of a response. The final one holds the complete result, earlier ones hold partial results."""

    data: bytes = b""
    """The encoded result; empty while there is a `value`."""
    mime: str = ""
    """E.g. `application/json;schema=face_v1`. Clients compare it as a string."""
    schema: str = ""
    """E.g. `face_v1`."""
    meta: Mapping[str, str] = field(default_factory=dict)
    is_final: bool = False
    seq: int = 0
    total: int = 0
    """Number of messages, if known in advance and `data` is a chunk of one result; 0 otherwise."""
    offset: int = 0
    value: Json | None = None
    """The result of a service in this process; the API encodes it."""

    async def encoded(self) -> "InferResult":
        """The same message with its result encoded in `data`; a large one is encoded in a thread."""
        if self.value is None:
            return self
        data = await asyncio.to_thread(self.value.encode) if self.value.is_large() else self.value.encode()
        return replace(self, data=data, value=None)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task of a service, as it is advertised."""

    name: str
    input_mimes: tuple[str, ...]
    output_mimes: tuple[str, ...]
    model: str = ""
    """Empty: it depends on the payload, and other tasks of the service name each model."""
    aliases: tuple[str, ...] = ()
    """Other names that requests may use; some are those of older clients."""
    limits: Mapping[str, str] = field(default_factory=dict)


class Service(Protocol):
    """A named service: built in, a deployed app, or on another node."""

    @property
    def name(self) -> str:
        """In lower case, e.g. `face_detection`."""
        ...

    def tasks(self) -> Sequence[TaskInfo]:
        """Its tasks; the first is the default."""
        ...

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        """The messages of the response; only the last one has `is_final`.

        `stream`: yield partial results as they become available; without it the final message alone is enough.
        Raises MienError, from the call itself or between messages. Closing the generator cancels `scope`.
        """
        ...
