"""All exceptions that concern a server or a task, in one hierarchy under `InferenceError`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHOWN_LINES = 10  # of a task's log in the text of its error


class InferenceError(Exception):
    """Base class of all errors of this library. Invalid arguments raise ValueError or TypeError instead."""


class ConfigurationError(InferenceError, ValueError):
    """The client's arguments or environment variables are invalid."""


class InferenceConnectionError(InferenceError, ConnectionError):
    """The server cannot be reached, or the connection broke before the response was complete."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        """Whether the server may have received the request."""


class InferenceTimeout(InferenceError, TimeoutError):
    """The timeout expired before there was a response. A task that was waited for continues."""


class APIError(InferenceError):
    """The server responded with an error."""

    def __init__(
        self,
        status_code: int,
        message: str,
        response_body: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status_code, message, response_body, code, request_id, retry_after)
        self.status_code = status_code
        """HTTP status."""
        self.message = message
        """The server's message."""
        self.response_body = response_body
        """The response body as text."""
        self.code = code
        """The server's error code, such as `not_found`."""
        self.request_id = request_id
        """The id of the request in the server's log."""
        self.retry_after = retry_after
        """Seconds after which a retry makes sense, if the server says so."""

    def __str__(self) -> str:
        known = (self.code, f"request id {self.request_id}" if self.request_id else None)
        more = ", ".join(item for item in known if item)
        return f"HTTP {self.status_code}: {self.message}" + (f" ({more})" if more else "")


@dataclass(frozen=True, slots=True)
class SetupAction:
    """What would meet a requirement."""

    type: str
    """`add_secret`, `connect` or `add_scopes`."""
    provider: str | None = None
    scopes: list[str] | None = None


@dataclass(frozen=True, slots=True)
class RequirementError:
    """One unmet requirement of an app."""

    type: str
    """`secret`, `integration` or `scope`."""
    key: str
    message: str
    action: SetupAction | None = None


class RequirementsNotMetError(InferenceError):
    """The app needs secrets, integrations or scopes that the server does not have (HTTP 412)."""

    def __init__(self, errors: Sequence[RequirementError], status_code: int = 412) -> None:
        super().__init__(errors, status_code)
        self.errors = list(errors)
        self.status_code = status_code

    def __str__(self) -> str:
        return "; ".join(error.message for error in self.errors) or "requirements not met"


class TaskEnded(InferenceError, RuntimeError):
    """A task ended without a result."""

    how = "ended"

    def __init__(self, task: Mapping[str, Any]) -> None:
        super().__init__(task)
        self.task = dict(task)
        """The task with all its fields."""

    @property
    def task_id(self) -> str | None:
        return self.task.get("id")

    @property
    def error(self) -> str | None:
        """The task's own error."""
        return self.task.get("error")

    @property
    def logs(self) -> list[str]:
        """The last lines of the task's log that the server sent."""
        return log_lines(self.task)[-SHOWN_LINES:]

    def __str__(self) -> str:
        detail = f": {self.error}" if self.error and self.how not in self.error else ""
        lines = "".join(f"\n  | {line}" for line in self.logs)
        return f"task {self.task_id} {self.how}{detail}{lines}"


class TaskFailed(TaskEnded):
    """The task failed; `error` says why, `task` and `logs` show the rest."""

    how = "failed"


class TaskCancelled(TaskEnded):
    """The task was cancelled."""

    how = "was cancelled"


class StreamError(InferenceError):
    """A stream broke and could not be resumed. The task continues; `task` is its last known state."""

    def __init__(self, message: str, task_id: str, task: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, task_id, task)
        self.message = message
        self.task_id = task_id
        self.task = dict(task or {})

    def __str__(self) -> str:
        return f"the stream of task {self.task_id} is lost: {self.message}"


class UploadError(InferenceError, RuntimeError):
    """A file cannot be read, or the server rejects it."""


def log_lines(task: Mapping[str, Any]) -> list[str]:
    """The lines of a task's `logs`, which servers send as strings or as objects with a `content`."""
    found: list[str] = []
    for entry in task.get("logs") or ():
        text = entry.get("content") if isinstance(entry, Mapping) else entry
        found += str(text or "").splitlines()
    return found
