"""What callers say about uploads and streams."""

from dataclasses import dataclass
from typing import TypedDict

from inferencesh._progress import Progress


@dataclass
class UploadFileOptions:
    """How an upload is to be called; what is None is found out. Never changed by the client."""

    filename: str | None = None
    content_type: str | None = None
    path: str | None = None
    """What the file's path is to be called on the server."""
    public: bool | None = None
    """Whether everyone who knows the address may read the file."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How patiently a task is followed. Times in seconds."""

    auto_reconnect: bool = True
    max_reconnects: int = 8
    """New connections in a row that bring nothing new, before the stream is given up."""
    reconnect_delay_ms: float = 250
    """Pause before the first of them; doubles up to 15 s."""
    idle_timeout: float = 60.0
    """Silence after which a connection counts as broken; the server's heartbeats are no silence."""
    timeout: float | None = None
    """For all of it; None: as long as the task takes."""


class FollowOptions(TypedDict, total=False):
    """Arguments of methods that follow a task."""

    timeout: float | None
    progress: bool | Progress
    auto_reconnect: bool
    max_reconnects: int
    reconnect_delay_ms: float
    idle_timeout: float | None


class RunOptions(FollowOptions, total=False):
    """Arguments of `run`, besides `wait` and `stream`."""

    idempotency_key: str | None
    upload_paths: bool | None
    upload_base64: bool | None
