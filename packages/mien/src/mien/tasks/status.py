"""The eleven statuses of a task and the order in which it may take them."""

from enum import IntEnum

from mien.errors import InternalError
from mien.workers.listener import Stage


class Status(IntEnum):
    """Where a task is in its life. The numbers are those of the wire. What an attempt reports is a `Stage`."""

    RECEIVED = 1
    """Accepted and on disk."""
    QUEUED = 2
    """Waiting for a place on a worker."""
    SCHEDULED = 3
    """Claimed: a worker was chosen."""
    PREPARING = Stage.PREPARING
    SERVING = Stage.SERVING
    SETTING_UP = Stage.SETTING_UP
    RUNNING = Stage.RUNNING
    UPLOADING = Stage.UPLOADING
    COMPLETED = 9
    FAILED = 10
    CANCELLED = 11


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
WAITING = frozenset({Status.RECEIVED, Status.QUEUED})
HELD = frozenset(set(Status) - TERMINAL - WAITING)
"""An attempt holds the task: only that attempt may report on it."""


def may_follow(before: Status, after: Status) -> bool:
    """Whether one attempt may go from `before` to `after`: forward only, skipping is fine, and out of no terminal
    status. A new attempt starts at QUEUED again; (attempt, status) only ever grows."""
    if before in TERMINAL:
        return False
    if after in (Status.FAILED, Status.CANCELLED):
        return True
    if after is Status.COMPLETED:
        return before in HELD
    return after > before


def check_transition(before: Status, after: Status) -> None:
    """Raises InternalError for a transition that the state machine does not have: a bug of the caller."""
    if not may_follow(before, after):
        raise InternalError(f"a task cannot go from {before.name} to {after.name}")
