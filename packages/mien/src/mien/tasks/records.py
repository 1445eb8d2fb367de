"""The records of a task: frozen values; times are in seconds since 1970 (UTC)."""

import hashlib
from enum import IntEnum
from typing import Any

import msgspec
import orjson

from mien.encoded import NULL, Encoded
from mien.errors import RequestError
from mien.keys import DEFAULT_OWNER
from mien.tasks.status import TERMINAL, Status


class LogKind(IntEnum):
    """Which stage a log line is from; the numbers are those of the wire."""

    BUILD = 0
    RUN = 1
    SERVE = 2
    SETUP = 3
    TASK = 4


class Event(msgspec.Struct, frozen=True):
    """The task reached a status."""

    status: Status
    at: float
    attempt: int
    reason: str | None = None
    """Set where it is not the normal course: a retry, a failure, a cancel."""


class LogLine(msgspec.Struct, frozen=True):
    """One line of a task's log. `number` counts from 1 within the task, over all attempts."""

    number: int
    attempt: int
    at: float
    kind: LogKind
    text: str


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A request to run a task."""

    app: str
    """Full name, `namespace/name`."""
    app_version: str = ""
    """The immutable version that the app reference was resolved to; "" for built-in apps."""
    variant: str = "default"
    function: str = "run"
    infra: str = "cloud"
    workers: tuple[str, ...] = ()
    """Restricts the task to these workers; empty: any worker."""
    input: Encoded = NULL
    setup: Any = None
    webhook: str | None = None
    """http(s) URL to which the ended task is posted."""
    session_id: str | None = None
    session_timeout: float | None = None
    """Idle seconds after which the session ends."""
    priority: int = 0
    """Higher runs first."""
    idempotency_key: str | None = None
    """The same key and body by the same owner is the same task."""
    owner: str = DEFAULT_OWNER
    """Whose task it is: see `mien.keys.Key.owner`."""
    deadline: float | None = None
    """The task must have ended by then, queued or running; else FAILED with `deadline_exceeded`."""
    timeout: float | None = None
    """Seconds that one attempt may take from its claim; else FAILED with `deadline_exceeded`."""
    run_at: float | None = None
    """Not dispatched before."""
    retries: int | None = None
    """New attempts after lost workers; None: the server's setting."""
    metadata: dict[str, Any] = {}
    dialect: str = ""
    """The dialect of the API that the caller used; opaque here, stored for the API."""

    def fingerprint(self) -> str:
        """Digest of everything that defines the work, independent of the order of JSON fields; for idempotency.

        Raises RequestError for values that JSON cannot represent."""
        fields = msgspec.structs.asdict(self) | {"input": self.input.value}
        for name in ("idempotency_key", "owner", "dialect"):
            del fields[name]
        return hashlib.sha256(canonical(fields)).hexdigest()


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it was at `revision`. Any two reads with the same revision are equal."""

    id: str
    """ULID of 26 characters, `created_at` in milliseconds and 80 random bits: sorts by age, cannot be guessed."""
    short_id: str
    """The last eight characters of `id`, for display."""
    seq: int
    """Position in the order of acceptance."""
    revision: int
    """Counts every change of this task, logs included, from 1."""
    created_at: float
    updated_at: float
    status: Status
    app: str
    app_version: str
    variant: str
    function: str
    infra: str
    workers: tuple[str, ...]
    setup: Any
    setup_key: str
    """Digest of the canonical `setup`: equal setups have equal keys, independent of the order of their fields."""
    input: Encoded
    output: Any
    """The newest partial output while RUNNING and afterwards, unless COMPLETED: then the result."""
    error: str | None
    error_code: str | None
    """`app_failed`, `worker_lost`, `deadline_exceeded`, `cancelled`, `output_too_large`, or a code of the server."""
    progress: float | None
    """0..1, as reported by the app."""
    progress_message: str | None
    worker: str | None
    """The executor's name for the worker that runs, or ran, the task."""
    webhook: str | None
    session_id: str | None
    session_timeout: float | None
    priority: int
    idempotency_key: str | None
    owner: str
    attempt: int
    """From 1, incremented each time the task is queued again. Fences writes."""
    losses: int
    """Attempts whose worker or server was lost."""
    retries: int
    """Losses that are retried; one more fails the task."""
    deadline: float | None
    timeout: float | None
    run_at: float | None
    cancel_requested_at: float | None
    finished_at: float | None
    log_count: int
    """Number of the newest log line."""
    events: tuple[Event, ...]
    metadata: dict[str, Any]
    dialect: str

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL


class Candidate(msgspec.Struct, frozen=True):
    """What choosing a worker needs to know about a queued task. Small, as the whole queue is kept in memory."""

    id: str
    seq: int
    attempt: int
    app: str
    app_version: str
    variant: str
    function: str
    setup_key: str
    session_id: str | None
    priority: int
    created_at: float
    run_at: float | None
    deadline: float | None
    owner: str = DEFAULT_OWNER

    @property
    def affinity(self) -> tuple[Any, ...]:
        """Tasks with equal affinity are interchangeable to a worker."""
        return self.app, self.app_version, self.variant, self.function, self.setup_key, self.session_id


def candidate_of(task: Task) -> Candidate:
    """What the scheduler keeps of a queued task."""
    return Candidate(**{name: getattr(task, name) for name in Candidate.__struct_fields__})


class Attempt(msgspec.Struct, frozen=True):
    """The right to run a task once. `task` is the newest snapshot that this attempt has written."""

    task: Task
    holder: str
    """The server that has the claim."""
    lease_until: float

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def number(self) -> int:
        return self.task.attempt


def canonical(value: Any) -> bytes:
    """JSON with sorted keys. Raises RequestError for values that JSON cannot represent."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise RequestError(f"this cannot be written as JSON: {error}") from None


def clean(text: str) -> str:
    """The text with lone surrogates and NUL, which databases do not store, replaced."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def setup_key(setup: Any) -> str:
    """The value of `Task.setup_key` for a setup; "" for none."""
    return "" if setup is None else hashlib.sha256(canonical(setup)).hexdigest()[:32]
