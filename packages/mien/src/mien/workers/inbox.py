"""Routes a worker's messages to what waits for them: its start, and its runs."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infsh._kernel import protocol
from mien.workers.listener import AppError, Listener, RunCancelled, Silent

TAIL_LINES = 20
LINE_CHARS = 16_384


@dataclass(slots=True)
class PendingRun:
    """A run whose end has not been reported yet."""

    listener: Listener
    ended: "asyncio.Future[Any]"


class Inbox:
    """Takes messages and lines of output; settles the start and the runs that they are about."""

    def __init__(self) -> None:
        self.fatal: protocol.Fatal | None = None
        """The worker's last message, if it sent one before it ended."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """Its last lines of output beside runs."""
        self._runs: dict[str, PendingRun] = {}
        self._starting: asyncio.Future[Any] | None = None
        self._starter: Listener = Silent()

    @contextlib.contextmanager
    def start(self, listener: Listener) -> Iterator["asyncio.Future[Any]"]:
        """A step of the start: the future is what answers it, `Loaded` or `Ready`; its output goes to `listener`."""
        self._starting = asyncio.get_running_loop().create_future()
        self._starter = listener
        try:
            yield self._starting
        finally:
            _retrieve(self._starting)
            self._starting = None
            self._starter = Silent()

    @contextlib.contextmanager
    def run(self, run_id: str, listener: Listener) -> Iterator[PendingRun]:
        """A run, known here as long as the block lasts."""
        run = PendingRun(listener, asyncio.get_running_loop().create_future())
        self._runs[run_id] = run
        try:
            yield run
        finally:
            self._runs.pop(run_id, None)
            _retrieve(run.ended)

    def find(self, run_id: str) -> PendingRun | None:
        """The run, unless it has ended."""
        run = self._runs.get(run_id)
        return None if run is None or run.ended.done() else run

    def take(self, message: protocol.Message) -> None:
        """One message. Those about runs that have ended are dropped: they crossed with the end."""
        match message:
            case protocol.Log():
                self.log(message.line, message.run_id)
            case protocol.Progress():
                if run := self._runs.get(message.run_id):
                    run.listener.progress(message.fraction, message.message)
            case protocol.Output():
                if (run := self._runs.get(message.run_id)) and not message.final:
                    run.listener.output(message.output)
            case protocol.Done():
                if run := self.find(message.run_id):
                    run.ended.set_result(message.output)
            case protocol.Failed():
                self._fail(message.run_id, AppError(message.error, message.kind, message.traceback))
            case protocol.Cancelled():
                self._fail(message.run_id, RunCancelled())
            case protocol.Loaded() | protocol.Ready():
                if self._starting is not None and not self._starting.done():
                    self._starting.set_result(message)
            case protocol.Fatal():
                self.fatal = message

    def log(self, line: str, run_id: str | None = None) -> None:
        """One line of output. It goes to all runs when it is not known which of them printed it."""
        line = line[:LINE_CHARS]
        run = self._runs.get(run_id) if run_id is not None else None
        if run is not None:
            run.listener.log(line)
        elif self._starting is not None or not self._runs:
            self.tail.append(line)
            self._starter.log(line)
        else:
            for run in self._runs.values():
                run.listener.log(line)

    def fail_all(self, error: Exception, start_error: Exception | None) -> None:
        """The worker is gone: every run that has not ended fails with `error`, a start with `start_error` if any."""
        for run in self._runs.values():
            if not run.ended.done():
                run.ended.set_exception(error)
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(start_error or error)

    def _fail(self, run_id: str, error: Exception) -> None:
        if run := self.find(run_id):
            run.ended.set_exception(error)


def _retrieve(future: "asyncio.Future[Any]") -> None:
    """Mark the exception as retrieved: asyncio warns about others, as when the run could not even be sent."""
    if future.done() and not future.cancelled():
        future.exception()
