"""Messages that are not protobuf: gRPC itself logs a traceback for each, and calls it an internal error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from mien.errors import RequestError

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a message that cannot be parsed."""

    kind: str
    """What it should have been."""


def reader(kind: type[M], most: int | None = None) -> Callable[[bytes], Any]:
    """A deserializer for gRPC: a message of that kind, or Malformed, also for one of more than `most` bytes."""

    def read(data: bytes) -> M | Malformed:
        if most is not None and len(data) > most:
            return Malformed(kind.DESCRIPTOR.full_name)
        try:
            return kind.FromString(data)
        except DecodeError:
            return Malformed(kind.DESCRIPTOR.full_name)

    return read


def well_formed(message: M | Malformed) -> M:
    """The message. Raises RequestError for a malformed one."""
    if isinstance(message, Malformed):
        raise RequestError(f"the message is not a valid {message.kind}")
    return message
