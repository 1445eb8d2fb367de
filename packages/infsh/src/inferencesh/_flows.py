"""The methods of both clients as flows: written once, run by either client."""

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from inferencesh import _calls
from inferencesh._content import Uploadable, content_of
from inferencesh._follow import Follower
from inferencesh._messages import Call
from inferencesh._options import StreamOptions, UploadFileOptions
from inferencesh._retry import with_retries
from inferencesh._settings import Settings, checked_seconds
from inferencesh._status import Task
from inferencesh._steps import RunBlocking, Steps
from inferencesh._uploads import prepared, upload_one
from inferencesh._walk import Rules

T = TypeVar("T")
LOG_PIECE = 5000  # lines


def simple(settings: Settings, call: Call[T]) -> Steps[T]:
    """One call with its retries."""
    return with_retries(call, settings.retries, settings.timeout)


def submit(
    settings: Settings,
    params: Mapping[str, Any],
    *,
    idempotency_key: str | None,
    upload_paths: bool | None,
    upload_base64: bool | None,
) -> Steps[Task]:
    """Uploads the files of the input and submits the task; returns the accepted task."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params is a {type(params).__name__}; expected a dict such as {{'app': …, 'input': …}}")
    if not params.get("app"):
        raise ValueError("params has no app: pass {'app': 'namespace/name', 'input': …}")
    rules = Rules(
        paths=settings.upload_paths if upload_paths is None else upload_paths,
        base64=settings.upload_base64 if upload_base64 is None else upload_base64,
    )
    body = yield from prepared(settings, params, rules)
    key = idempotency_key or params.get("idempotency_key") or uuid.uuid4().hex
    return (yield from simple(settings, _calls.run(settings, body, key)))


def whole_log(settings: Settings, task_id: str) -> Steps[list[dict[str, Any]]]:
    """All lines of a task's log, fetched in pages."""
    lines: list[dict[str, Any]] = []
    after = 0
    while True:
        piece = yield from simple(settings, _calls.task_logs(settings, task_id, after, LOG_PIECE))
        lines += piece
        last = piece[-1].get("id") if piece and isinstance(piece[-1], dict) else None
        if len(piece) < LOG_PIECE or not isinstance(last, int) or last <= after:
            return lines
        after = last


def upload(settings: Settings, data: Uploadable, options: UploadFileOptions | None) -> Steps[dict[str, Any]]:
    """Uploads one content; returns the server's record."""
    content = yield RunBlocking(lambda: content_of(data, base64_too=settings.upload_base64).named(options))
    return (yield from upload_one(settings, content))


def stream_options(
    settings: Settings,
    auto_reconnect: bool,
    max_reconnects: int,
    reconnect_delay_ms: float,
    idle_timeout: float | None,
    timeout: float | None,
) -> StreamOptions:
    """Raises ConfigurationError (a ValueError), which names the invalid one."""
    idle = settings.idle_timeout if idle_timeout is None else checked_seconds("idle_timeout", idle_timeout)
    if timeout is not None:
        checked_seconds("timeout", timeout)
    return StreamOptions(auto_reconnect, max_reconnects, reconnect_delay_ms, idle, timeout)


def follower(settings: Settings, task: str | Task, options: StreamOptions) -> Follower:
    """A follower of a task, which is given by its id or its latest known state."""
    if isinstance(task, str):
        _calls.part(task)
        return Follower(settings, task, options)
    return Follower(settings, str(task["id"]), options, first=task)
