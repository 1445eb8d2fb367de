"""The kinds of steps that a recording is made of. Nothing here knows the server's code: only what is sent to it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JSON = "application/json"
MSGPACK = "application/msgpack"
NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Http:
    """One request. `{{name}}` in path, headers and body stands for a value captured from an earlier answer."""

    name: str
    """`area/what is special`; unique."""
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    capture: Mapping[str, str] = field(default_factory=dict)
    """Name → dotted path into the JSON answer, or `header NAME`."""
    live: bool = False
    """A stream of a running task: how its frames are cut depends on time, so what they add up to is compared."""
    until: str = ""
    """Dotted path into the JSON answer: ask again until something is there."""
    recorded: bool = True
    """False: only to wait for something."""
    chunked: bool = False
    """Send the body without announcing its size."""
    stalls: bool = False
    """Announce one byte more than is sent, and wait for what the server says, beside all later steps."""


@dataclass(frozen=True)
class Command:
    """One `mien …` command. `{{name}}` as above; `{{server}}` is the server's URL."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    capture: Mapping[str, str] = field(default_factory=dict)
    """Name → regular expression with one group, looked for in stdout and stderr."""
    unordered: bool = False
    """The lines on stderr come as a task goes along: which statuses it is seen in, and how its log lies among them,
    depends on time."""


@dataclass(frozen=True)
class Delivered:
    """A request that the server itself sends to the recording's web server: a webhook."""

    name: str
    path: str


@dataclass(frozen=True)
class Socket:
    """The first message of a WebSocket."""

    name: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


Step: TypeAlias = Http | Command | Delivered | Socket


def as_json(value: Any) -> bytes:
    """The value as a request body."""
    return json.dumps(value).encode()


def get(name: str, path: str, **more: Any) -> Http:
    """A GET request."""
    return Http(name, "GET", path, **more)


def post(name: str, path: str, value: Any, *, headers: Mapping[str, str] = NO_HEADERS, **more: Any) -> Http:
    """A POST request with a JSON body."""
    return Http(name, "POST", path, as_json(value), {"Content-Type": JSON, **headers}, **more)


def form(*parts: tuple[str, bytes | str] | tuple[str, bytes, str] | tuple[str, bytes, str, str]) -> bytes:
    """A multipart body with the boundary `frontier`: `(field, value)`, `(field, content, file name[, type])`."""
    lines: list[bytes] = []
    for field_name, content, *about in parts:
        disposition = f'form-data; name="{field_name}"'
        if about:
            disposition += f'; filename="{about[0]}"'
        lines += [b"--frontier", f"Content-Disposition: {disposition}".encode()]
        if len(about) > 1:
            lines.append(f"Content-Type: {about[1]}".encode())
        lines += [b"", content.encode() if isinstance(content, str) else content]
    return b"\r\n".join([*lines, b"--frontier--", b""])


FORM = "multipart/form-data; boundary=frontier"
