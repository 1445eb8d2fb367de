"""Incremental parsers of streams: server-sent events or NDJSON. No I/O."""

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

from inferencesh.errors import InferenceConnectionError

LONGEST_EVENT = 256 * 2**20  # bytes
NDJSON = "application/x-ndjson"
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a stream."""

    value: dict[str, Any]
    id: str | None = None
    """The id from which the server resumes the stream."""
    mark: int = 0
    """The same for frames with the same text."""


class Frames(Protocol):
    """A parser of one connection's bytes."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises InferenceConnectionError for invalid data."""


def frames_of(media_type: str) -> Frames:
    """The parser for a content type."""
    return JsonLines() if media_type in (NDJSON, "application/ndjson", "application/jsonl") else Events()


class Lines:
    """Splits bytes into lines that end in CR, LF or CRLF, regardless of chunk boundaries."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their terminators."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        first, *rest = _LINE_END.split(data)
        self._open.append(first)
        self._size += len(first)
        if self._size > LONGEST_EVENT:
            raise InferenceConnectionError(f"the server sent an event of more than {LONGEST_EVENT} bytes")
        if not rest:
            return []
        self._after_cr = data.endswith(b"\r")
        *whole, last = [b"".join(self._open), *rest]
        self._open, self._size = [last], len(last)
        return whole


class Events:
    """Server-sent events, according to the HTML standard."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._id: str | None = None

    def feed(self, data: bytes) -> list[Frame]:
        found = []
        for line in self._lines.feed(data):
            if line:
                self._field(line)
            elif self._data:
                text, self._data = b"\n".join(self._data), []
                if (value := _object(text)) is not None:
                    found.append(Frame(value, self._id, hash(text)))
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")  # a comment, such as a heartbeat, has no name
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace") or None


class JsonLines:
    """One JSON object per line. There are no ids: a resumed stream starts with a snapshot."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, data: bytes) -> list[Frame]:
        values = [_object(line) for line in self._lines.feed(data) if line.strip()]
        return [Frame(value) for value in values if value is not None]


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object; None for a heartbeat."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InferenceConnectionError(f"the stream is corrupt: {error}") from error
    if not isinstance(value, dict):
        raise InferenceConnectionError(f"the stream is corrupt: expected an object, got {type(value).__name__}")
    return None if value.get("type") == "heartbeat" else value
