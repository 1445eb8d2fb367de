"""The statuses of a task."""

from enum import IntEnum
from typing import Any, TypeAlias

Task: TypeAlias = dict[str, Any]
"""A task as the server describes it; nothing is left out."""


class TaskStatus(IntEnum):
    """Where a task is. The numbers only ever rise; the last three are final."""

    RECEIVED = 1
    """Received by the server, and on its disk."""
    QUEUED = 2
    """Waits for a worker."""
    SCHEDULED = 3
    """A worker is chosen."""
    PREPARING = 4
    """The worker prepares its environment and the input files."""
    SERVING = 5
    """The app's process is coming up."""
    SETTING_UP = 6
    """The app's `setup` runs; skipped by warm workers."""
    RUNNING = 7
    UPLOADING = 8
    """The result's files are stored."""
    COMPLETED = 9
    FAILED = 10
    CANCELLED = 11

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self >= TaskStatus.COMPLETED


_KNOWN = frozenset(TaskStatus)


def status_of(task: Task) -> TaskStatus | None:
    """A task's status; None where it has none that is known."""
    told = task.get("status")
    return TaskStatus(told) if told in _KNOWN else None


def in_our_numbers(task: Task) -> Task:
    """The task with `status` as TaskStatus counts: tasks that newer clients submitted may come with other numbers.

    The name beside the number decides, where the server sends one.
    """
    known = TaskStatus.__members__.get(str(task.get("status_name")).upper())
    if known is None or task.get("status") == known:
        return task
    shown = {**task, "status": int(known)}
    if isinstance(task.get("events"), list):
        shown["events"] = [in_our_numbers(event) if isinstance(event, dict) else event for event in task["events"]]
    return shown
