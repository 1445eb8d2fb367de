"""The numbers by which tasks are accepted, ordered, run and kept."""

import msgspec


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and bytes."""

    queue: int = 10_000
    """Queued tasks; over it submissions are refused."""
    input_bytes: int = 4 * 1024 * 1024
    output_bytes: int = 16 * 1024 * 1024
    log_bytes: int = 1024 * 1024
    app_concurrency: int | None = None
    """Tasks of one app that run at once; None: as many as there is room for."""
    task_aging_seconds: float = 30.0
    """A task that has waited longer goes before better-fitting ones; after twice as long it is a barrier."""
    lease: float = 30.0
    grace: float = 10.0
    """Time for a running task to end by itself when it is cancelled, where its app does not say."""
    longest_grace: float = 60.0
    """The most that an app may ask for."""
    timeout: float | None = None
    """Longest attempt of tasks that do not say."""
    keep: float | None = 7 * 86400.0
    """Ended tasks are removed after this time; None: never."""
