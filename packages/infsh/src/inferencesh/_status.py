"""The statuses of a task."""

from enum import IntEnum
from typing import Any, TypeAlias

Task: TypeAlias = dict[str, Any]
"""A task as sent by the server, with all its fields."""


class TaskStatus(IntEnum):
    """The status of a task. It only increases; the last three are terminal."""

    RECEIVED = 1
    """Received by the server, and on its disk."""
    QUEUED = 2
    """Waiting for a worker."""
    SCHEDULED = 3
    """A worker has been selected."""
    PREPARING = 4
    """The environment and the input files are being prepared."""
    SERVING = 5
    """The app's process is starting."""
    SETTING_UP = 6
    """The app's `setup` is running; skipped by warm workers."""
    RUNNING = 7
    UPLOADING = 8
    """Output files are being stored."""
    COMPLETED = 9
    FAILED = 10
    CANCELLED = 11

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self >= TaskStatus.COMPLETED


_KNOWN = frozenset(TaskStatus)


def status_of(task: Task) -> TaskStatus | None:
    """A task's status; None if missing or unknown."""
    number = task.get("status")
    return TaskStatus(number) if number in _KNOWN else None


def in_our_numbers(task: Task) -> Task:
    """The task with a `status` as in TaskStatus: tasks submitted by newer clients may have other numbers.

    If the server sends a name with the number, the name decides.
    """
    known = TaskStatus.__members__.get(str(task.get("status_name")).upper())
    if known is None or task.get("status") == known:
        return task
    shown = {**task, "status": int(known)}
    if isinstance(task.get("events"), list):
        shown["events"] = [in_our_numbers(event) if isinstance(event, dict) else event for event in task["events"]]
    return shown
