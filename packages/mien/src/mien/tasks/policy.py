"""Limits and times by which tasks are accepted, ordered, run and kept."""

import msgspec

from mien.settings import Tasks


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and bytes."""

    queue: int = 10_000
    """Most queued tasks; further submissions are refused."""
    scheduled: int = 10_000
    """Most tasks that wait for their `run_at`; further ones are refused."""
    input_bytes: int = 4 * 1024 * 1024
    output_bytes: int = 16 * 1024 * 1024
    log_bytes: int = 1024 * 1024
    app_concurrency: int | None = None
    """Most tasks of one app that run at once; None: no limit."""
    task_aging_seconds: float = 30.0
    """A task that has waited longer goes before better-fitting ones; after twice as long it is a barrier."""
    lease: float = 30.0
    grace: float = 10.0
    """Time for a cancelled task to end by itself, unless its app sets its own."""
    longest_grace: float = 60.0
    """Upper bound for an app's own grace."""
    timeout: float | None = None
    """Time limit of one attempt, unless the task sets its own."""
    keep: float | None = 7 * 86400.0
    """Ended tasks are removed after this time; None: never."""


def policy_of(tasks: Tasks) -> Policy:
    """The policy that the settings describe."""
    return Policy(
        queue=tasks.task_queue,
        scheduled=tasks.task_scheduled,
        input_bytes=tasks.task_input_bytes,
        output_bytes=tasks.task_output_bytes,
        log_bytes=tasks.task_log_bytes,
        app_concurrency=tasks.task_concurrency,
        task_aging_seconds=tasks.task_aging_seconds,
        lease=tasks.task_lease,
        grace=tasks.task_grace,
        longest_grace=tasks.task_grace_max,
        timeout=tasks.task_timeout,
        keep=tasks.keep_seconds,
    )
