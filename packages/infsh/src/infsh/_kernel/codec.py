"""From messages to frames and back; no socket is touched here.

A frame is a big-endian length of 4 bytes and a JSON object with the key `type`. A message whose JSON is longer than
`INLINE_BYTES` is sent as a file in the spill directory, which both sides know; the frame then only names the file,
and the reader removes it. Unknown keys and unknown message types are skipped, so either side may be newer.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import secrets
import stat
import struct
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infsh._kernel.protocol import MESSAGES, EncodedJson, Message, ProtocolError

MAX_FRAME_BYTES = 16 << 20
INLINE_BYTES = 1 << 20
MAX_SPILLED_BYTES = 1 << 30

_LENGTH = struct.Struct(">I")
_SPILLED = "spilled"
_SPILL_NAME = re.compile(r"[0-9a-f]{32}\.json")
_HEAD = re.compile(rb'\{"type":"([a-z]+)"(?:,"run_id":"([^"\\]+)")?[,}]')
"""How `encode` begins a message. `type` and `run_id` come first in all that have them."""


def encode(message: Message) -> bytes:
    """The JSON of a message, without its frame."""
    body = {"type": message.type}
    body.update((f.name, getattr(message, f.name)) for f in dataclasses.fields(message))
    ready = {name: body.pop(name) for name, value in list(body.items()) if isinstance(value, EncodedJson)}
    try:
        text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"a {message.type} message cannot be sent as JSON: {error}") from error
    if ready:
        text = "".join([text[:-1], *(f',"{name}":{value}' for name, value in ready.items()), "}"])
    return text.encode()


def decode(body: bytes) -> Message | None:
    """The message in this JSON; None for a type that this version does not know. Raises ProtocolError."""
    return _from_object(_json_object(body))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame is not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ProtocolError("a frame must be a JSON object with a string under `type`")
    return value


def _from_object(value: dict[str, Any]) -> Message | None:
    cls = MESSAGES.get(value["type"])
    if cls is None:
        return None
    arguments = {}
    for name, (kinds, required) in _FIELDS[cls].items():
        if name not in value:
            if required:
                raise ProtocolError(f"a {cls.type} message lacks `{name}`")
            continue
        arguments[name] = _checked(value[name], kinds, f"{cls.type}.{name}")
    return cls(**arguments)


def _checked(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    if Any in kinds:
        return value
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        expected = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in kinds)
        raise ProtocolError(f"`{where}` must be {expected}, not {type(value).__name__}")
    if list in kinds and not all(isinstance(item, str) for item in value):
        raise ProtocolError(f"`{where}` must contain only strings")
    return value


def _kinds(hint: Any) -> tuple[Any, ...]:
    if isinstance(hint, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _kinds(part))
    return (typing.get_origin(hint) or hint,)


def _required(f: "dataclasses.Field[Any]") -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


_FIELDS: dict[type[Message], dict[str, tuple[tuple[Any, ...], bool]]] = {
    cls: {f.name: (_kinds(typing.get_type_hints(cls)[f.name]), _required(f)) for f in dataclasses.fields(cls)}
    for cls in MESSAGES.values()
}


class Codec:
    """Turns messages into frames and received bytes into messages, without socket I/O.

    `spill` is the directory for long messages. Without it, a message over `MAX_FRAME_BYTES` cannot be sent.
    """

    def __init__(self, spill: Path | None = None) -> None:
        self._spill = spill
        self._buffer = bytearray()

    def frame(self, message: Message) -> bytes:
        """The bytes to send. Writes a file first when the message is long. Raises ProtocolError."""
        body = encode(message)
        if len(body) > INLINE_BYTES and self._spill is not None:
            run_id = getattr(message, "run_id", None)
            body = json.dumps(
                {"type": _SPILLED, "of": message.type, "run_id": run_id, "name": self._write(body)}
            ).encode()
        if len(body) > MAX_FRAME_BYTES:
            raise ProtocolError(f"a {message.type} message of {len(body)} bytes is over {MAX_FRAME_BYTES}")
        return _LENGTH.pack(len(body)) + body

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that these bytes complete. Raises ProtocolError; the stream is unusable after that."""
        self._buffer += data
        return self._complete()

    def frames(self, data: bytes, *, trusted: bool = False) -> Iterator[tuple[bytes, str, str | None]]:
        """The frames that these bytes complete, whole, for passing on: bytes, message type, run id.

        `trusted`: the peer writes whole messages or nothing, so the head of one is enough; an input of megabytes need
        not be decoded here, as its recipient decodes it anyway.
        """
        self._buffer += data
        for frame in self._cut():
            if trusted and (head := _HEAD.match(frame, _LENGTH.size)) is not None:
                yield frame, head[1].decode(), None if head[2] is None else head[2].decode()
                continue
            value = _json_object(frame[_LENGTH.size :])
            kind = value.get("of") if value["type"] == _SPILLED else value["type"]
            yield frame, str(kind), value.get("run_id")

    @property
    def empty(self) -> bool:
        """Whether there is no incomplete frame."""
        return not self._buffer

    def _complete(self) -> Iterator[Message]:
        for frame in self._cut():
            value = _json_object(frame[_LENGTH.size :])
            if value["type"] == _SPILLED:
                value = _json_object(self._read(value.get("name")))
            message = _from_object(value)
            if message is not None:
                yield message

    def _cut(self) -> Iterator[bytes]:
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes is over {MAX_FRAME_BYTES}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            yield frame

    def _write(self, body: bytes) -> str:
        assert self._spill is not None  # noqa: S101  # the caller looked
        if len(body) > MAX_SPILLED_BYTES:
            raise ProtocolError(f"a message of {len(body)} bytes is over {MAX_SPILLED_BYTES}")
        name = f"{secrets.token_hex(16)}.json"
        target = self._spill / name
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise ProtocolError(f"a long message cannot be written: {error.strerror}") from error
        return name

    def _read(self, name: Any) -> bytes:
        if self._spill is None or not isinstance(name, str) or not _SPILL_NAME.fullmatch(name):
            raise ProtocolError("a spilled message must name a file of the spill directory")
        target = self._spill / name
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SPILLED_BYTES:
                    raise ProtocolError(f"a spilled message must be a file of at most {MAX_SPILLED_BYTES} bytes")
                return file.read()
        except (OSError, ValueError) as error:
            raise ProtocolError(f"a spilled message cannot be read: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                target.unlink()
