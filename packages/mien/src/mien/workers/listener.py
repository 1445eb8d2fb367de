"""What a worker reports while it starts and runs, and the ways in which that fails."""

from typing import Any, Literal, Protocol

GoneKind = Literal["exited", "signal", "memory", "processes", "protocol", "start"]
"""How a worker ended: with a status; by a signal; over a limit; with messages that could not be parsed, or none at all;
before it was up."""


class Listener(Protocol):
    """Takes the events of one run, or of a start; called from the event loop, must not block or raise."""

    def log(self, line: str) -> None:
        """One line that the app printed or logged."""

    def progress(self, fraction: float, message: str) -> None:
        """How far the run is, 0..1."""

    def output(self, value: Any) -> None:
        """A partial output; it replaces the one before. Files are still in the worker's folder."""


class Silent:
    """A listener that drops everything."""

    def log(self, line: str) -> None: ...

    def progress(self, fraction: float, message: str) -> None: ...

    def output(self, value: Any) -> None: ...


class WorkerGone(Exception):
    """The worker is gone, and with it what it was doing; `reason` says how, in words."""

    def __init__(self, reason: str, *, kind: GoneKind = "start", stop_requested: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: GoneKind = kind
        self.stop_requested = stop_requested
        """Whether this server ended it on purpose: then it is no crash."""


class AppError(Exception):
    """The app reported an error: its import, its setup or one run. `kind` is the protocol's."""

    def __init__(self, message: str, kind: str, traceback: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.traceback = traceback


class RunCancelled(Exception):
    """The app ended the run, as it was asked to."""
