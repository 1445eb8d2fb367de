"""The eleven statuses of a task and the transitions between them."""

from enum import IntEnum

from mien.errors import InternalError
from mien.workers.listener import Stage


class Status(IntEnum):
    """A task's status. The numbers are those of the wire. Those that an attempt reports are its `Stage`s."""

    RECEIVED = 1
    """Accepted and on disk."""
    QUEUED = 2
    """Waiting for a worker."""
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
"""An attempt holds the task: only that attempt may change it."""


def may_follow(before: Status, after: Status) -> bool:
    """Whether one attempt may go from `before` to `after`: forward only, with or without the statuses in between, and
    never out of a terminal one. A new attempt starts at QUEUED again, so (attempt, status) only ever grows."""
    if before in TERMINAL:
        return False
    if after in (Status.FAILED, Status.CANCELLED):
        return True
    if after is Status.COMPLETED:
        return before in HELD
    return after > before


def check_transition(before: Status, after: Status) -> None:
    """Raises InternalError for a transition that the state machine does not have: a bug in the caller."""
    if not may_follow(before, after):
        raise InternalError(f"a task cannot go from {before.name} to {after.name}")
