"""What a worker tells whoever waits for it."""

from typing import Any, Literal, Protocol

GoneKind = Literal["exited", "signal", "memory", "processes", "protocol", "start"]
"""How a worker ended, in few words: with a status; by a signal; over a limit; without sense in its messages, or without
any; before it was up."""


class Listener(Protocol):
    """Takes the events of one run, or of a start; called from the event loop, must not block or raise."""

    def log(self, line: str) -> None:
        """One line that the app printed or logged."""

    def progress(self, fraction: float, message: str) -> None:
        """How far the run is, 0..1."""

    def output(self, value: Any) -> None:
        """A partial output; it replaces the one before. Files are still in the worker's folder."""


class Silent:
    """A listener that nobody listens to."""

    def log(self, line: str) -> None: ...

    def progress(self, fraction: float, message: str) -> None: ...

    def output(self, value: Any) -> None: ...


class WorkerGone(Exception):
    """The process ended under its work; `reason` says how, in words."""

    def __init__(self, reason: str, *, kind: GoneKind = "start", told: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: GoneKind = kind
        self.told = told
        """Whether this server ended it on purpose."""


class AppError(Exception):
    """The app reported an error: its import, its setup or one run. `kind` is the protocol's."""

    def __init__(self, message: str, kind: str, traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.traceback = traceback


class RunCancelled(Exception):
    """The app ended the run because it was asked to."""
