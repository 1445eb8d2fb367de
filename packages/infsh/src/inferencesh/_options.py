"""Options of uploads and streams."""

from dataclasses import dataclass
from typing import TypedDict

from inferencesh._progress import Progress


@dataclass
class UploadFileOptions:
    """Metadata of an upload; None is detected. Never changed by the client."""

    filename: str | None = None
    content_type: str | None = None
    path: str | None = None
    """The file's path on the server."""
    public: bool | None = None
    """Whether anyone who knows the URL may read the file."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Timeouts and reconnects for following a task. Times in seconds."""

    auto_reconnect: bool = True
    max_reconnects: int = 8
    """Consecutive connections without anything new after which the stream is abandoned."""
    reconnect_delay_ms: float = 250
    """Delay before the first reconnect; doubles up to 15 s."""
    idle_timeout: float = 60.0
    """Silence after which a connection counts as broken; heartbeats do not count as silence."""
    timeout: float | None = None
    """Total timeout; None: as long as the task takes."""


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
