"""What attempts report, coalesced and written a few times a second in one transaction each."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from msgspec import UNSET

from mien.errors import MienError, StaleAttempt
from mien.tasks.machine import Changes, LogText
from mien.tasks.records import Attempt, LogKind
from mien.tasks.status import Status
from mien.tasks.store import TaskStore
from mien.workers.listener import Stage

log = structlog.get_logger()

FIRST_FLUSH = 0.005
"""Seconds: the coalescing window of the first report. A task that ends within it is written once."""
NEXT_FLUSH = 0.05
_RETRY_SECONDS = 1.0
_LONGEST_LINE = 16 * 1024
_KINDS: dict[Stage | None, LogKind] = {
    Stage.PREPARING: LogKind.BUILD,
    Stage.SERVING: LogKind.SERVE,
    Stage.SETTING_UP: LogKind.SETUP,
    Stage.RUNNING: LogKind.RUN,
    Stage.UPLOADING: LogKind.RUN,
}


class AttemptReporter:
    """Implements `mien.tasks.executor.Reporter` for one attempt, and owns the attempt's newest snapshot."""

    def __init__(
        self,
        store: TaskStore,
        attempt: Attempt,
        *,
        log_bytes: int,
        output_bytes: int,
        clock: Callable[[], float],
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called when the attempt turns out to have lost its claim."""
        self.attempt = attempt
        self._store = store
        self._log_bytes_left = log_bytes
        self._output_bytes = output_bytes
        self._clock = clock
        self._lost = lost
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._pause = FIRST_FLUSH
        self._stage: Stage | None = None
        self._clear()

    def _clear(self) -> None:
        self._statuses: list[tuple[Status, float, str | None]] = []
        self._logs: list[LogText] = []
        self._newest: dict[str, Any] = {}

    # --- what executors call

    def stage(self, stage: Stage) -> None:
        self._stage = stage
        self._note(lambda: self._statuses.append((Status(stage), self._clock(), None)))

    def worker(self, name: str) -> None:
        self._note(lambda: self._newest.update(worker=name))

    def progress(self, fraction: float, message: str | None = None) -> None:
        bounded = None if fraction != fraction else min(1.0, max(0.0, fraction))
        self._note(lambda: self._newest.update(progress=bounded, progress_message=message))

    def output(self, value: Any) -> None:
        try:
            size = len(orjson.dumps(value))
        except TypeError as error:
            self._log(LogKind.TASK, f"a partial output is not JSON and was left out: {error}")
            return
        if size > self._output_bytes:
            self._log(LogKind.TASK, f"a partial output of {size} bytes was left out: {self._output_bytes} are kept")
            return
        self._note(lambda: self._newest.update(output=value))

    def log(self, text: str) -> None:
        self._log(_KINDS.get(self._stage, LogKind.TASK), text)

    def _log(self, kind: LogKind, text: str) -> None:
        self._note(lambda: self._append(kind, text))

    def _append(self, kind: LogKind, text: str) -> None:
        now = self._clock()
        for line in text.splitlines():
            if self._log_bytes_left <= 0:
                return
            kept = line[:_LONGEST_LINE]
            self._log_bytes_left -= len(kept.encode("utf-8", "replace")) + 1
            if self._log_bytes_left <= 0:
                kept = "[the log is full: the lines after this one were not kept]"
            self._logs.append(LogText(now, kind, kept))

    def _note(self, note: Callable[[], None]) -> None:
        if self._closed:
            return
        note()
        if self._timer is None and self._flushing is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._flush)

    # --- writing

    async def close(self) -> Changes | None:
        """Accept no more reports. Returns what is not written yet, for the terminal write."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is not None:
            await self._flushing
        return self._collect()

    def _collect(self) -> Changes | None:
        if not (self._statuses or self._logs or self._newest):
            return None
        changes = Changes(statuses=tuple(self._statuses), logs=tuple(self._logs), **self._newest)
        self._clear()
        return changes

    def _flush(self) -> None:
        self._timer = None
        self._flushing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        changes = self._collect()
        self._pause = NEXT_FLUSH
        try:
            if changes is not None:
                self.attempt = await self._store.update(self.attempt, changes)
        except StaleAttempt:
            self._closed = True
            self._lost()
        except MienError as error:
            log.warning("reports of a task are not written yet", task=self.attempt.id, error=error.message)
            self._restore(changes)
            self._pause = _RETRY_SECONDS
        finally:
            self._flushing = None
            if not self._closed and (self._statuses or self._logs or self._newest):
                self._timer = asyncio.get_running_loop().call_later(self._pause, self._flush)

    def _restore(self, changes: Changes | None) -> None:
        """Put changes that could not be written back in front of those that came since."""
        if changes is not None:
            self._statuses[:0] = changes.statuses
            self._logs[:0] = changes.logs
            for name in ("worker", "progress", "progress_message", "output"):
                if (value := getattr(changes, name)) is not UNSET:
                    self._newest.setdefault(name, value)
