"""Dispatches a worker's messages to its start and its runs."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infsh._kernel import protocol
from mien.workers.listener import AppError, Listener, NullListener, RunCancelled

TAIL_LINES = 20
LINE_CHARS = 16_384


@dataclass(slots=True)
class PendingRun:
    """A run that has not ended yet."""

    listener: Listener
    ended: "asyncio.Future[Any]"


class Inbox:
    """Dispatches messages and lines of output; resolves the futures of the start and of the runs."""

    def __init__(self) -> None:
        self.fatal: protocol.Fatal | None = None
        """The worker's report of why it is about to end, if it sent one."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """Its last lines of output that belong to no run."""
        self._runs: dict[str, PendingRun] = {}
        self._starting: asyncio.Future[Any] | None = None
        self._starter: Listener = NullListener()

    @contextlib.contextmanager
    def start(self, listener: Listener) -> Iterator["asyncio.Future[Any]"]:
        """A step of the start. The future gets the reply, `Loaded` or `Ready`; output goes to `listener`."""
        self._starting = asyncio.get_running_loop().create_future()
        self._starter = listener
        try:
            yield self._starting
        finally:
            _retrieve(self._starting)
            self._starting = None
            self._starter = NullListener()

    @contextlib.contextmanager
    def run(self, run_id: str, listener: Listener) -> Iterator[PendingRun]:
        """Register a run for the duration of the block."""
        run = PendingRun(listener, asyncio.get_running_loop().create_future())
        self._runs[run_id] = run
        try:
            yield run
        finally:
            self._runs.pop(run_id, None)
            _retrieve(run.ended)

    def listener(self, run_id: str | None) -> Listener | None:
        """That of the run, or of the start (None), unless it has ended."""
        if run_id is None:
            return None if self._starting is None else self._starter
        run = self.find(run_id)
        return None if run is None else run.listener

    def find(self, run_id: str) -> PendingRun | None:
        """The run, unless it has ended."""
        run = self._runs.get(run_id)
        return None if run is None or run.ended.done() else run

    def dispatch(self, message: protocol.Message) -> None:
        """Handle one message. Messages about runs that have already ended are dropped."""
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
                self._fail(message.run_id, AppError(message.error, message.kind, message.traceback, message.code))
            case protocol.Cancelled():
                self._fail(message.run_id, RunCancelled())
            case protocol.Loaded() | protocol.Ready():
                if self._starting is not None and not self._starting.done():
                    self._starting.set_result(message)
            case protocol.Fatal():
                self.fatal = message

    def log(self, line: str, run_id: str | None = None) -> None:
        """Dispatch one line of output; to all runs if it is unknown which one printed it."""
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
        """Fail every pending run with `error`, and a pending start with `start_error`, if given, or `error`."""
        for run in self._runs.values():
            if not run.ended.done():
                run.ended.set_exception(error)
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(start_error or error)

    def _fail(self, run_id: str, error: Exception) -> None:
        if run := self.find(run_id):
            run.ended.set_exception(error)


def _retrieve(future: "asyncio.Future[Any]") -> None:
    """Mark the exception as retrieved. Otherwise asyncio logs it if the future is never awaited, as when the run could
    not even be sent."""
    if future.done() and not future.cancelled():
        future.exception()
