"""The run that the current code belongs to, through which logs and progress are reported."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


class Sink(Protocol):
    """Where logs and progress go: the kernel's connection, or the terminal of `infsh run`. Safe for all threads."""

    def log(self, line: str, run_id: str | None) -> None: ...
    def progress(self, run_id: str, fraction: float, message: str) -> None: ...


@dataclass(eq=False, slots=True)
class ActiveRun:
    """One run or setup of the app."""

    run_id: str | None
    sink: Sink
    cancelled: threading.Event = field(default_factory=threading.Event)

    def log(self, line: str) -> None:
        self.sink.log(line, self.run_id)

    def progress(self, fraction: float, message: str) -> None:
        if self.run_id is not None:
            self.sink.progress(self.run_id, fraction, message)


_current: ContextVar[ActiveRun | None] = ContextVar("infsh_run", default=None)
_active: list[ActiveRun] = []


def current_run() -> ActiveRun | None:
    """The run of this asyncio task or thread. In a thread started by the app: the only active run, else None."""
    run = _current.get()
    if run is not None:
        return run
    active = list(_active)
    return active[0] if len(active) == 1 else None


@contextmanager
def running(run: ActiveRun) -> Iterator[None]:
    """Makes `run` the current one in this context."""
    token = _current.set(run)
    _active.append(run)
    try:
        yield
    finally:
        _active.remove(run)
        _current.reset(token)
