"""The flow of a task's stream: connecting, reading and resuming until the task has ended. Decisions only."""

import time
from collections.abc import Callable
from typing import Any

from inferencesh import _calls
from inferencesh._frames import Frame, frames_of
from inferencesh._merge import Merger
from inferencesh._options import StreamOptions
from inferencesh._responses import raise_for_status
from inferencesh._retry import Backoff, can_pass, chance, with_retries
from inferencesh._settings import Settings
from inferencesh._status import Task, TaskStatus, status_of
from inferencesh._steps import Connect, Disconnect, Emit, Receive, Steps, Wait
from inferencesh.errors import (
    APIError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeout,
    StreamError,
    TaskCancelled,
    TaskFailed,
)

LONGEST_PAUSE = 15.0  # seconds between connections
SOUND_SECONDS = 5.0  # a connection that was active for this long counts as working, even if nothing was new


class Follower:
    """Follows one task. `result` and `error` tell how it ended."""

    def __init__(
        self,
        settings: Settings,
        task_id: str,
        options: StreamOptions,
        first: Task | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`first`: the known state of the task, such as the response to its submission."""
        self.task_id = task_id
        self.result: Task | None = None
        self.error: Exception | None = None
        self._settings = settings
        self._options = options
        self._first = first
        self._merger = Merger()
        self._clock = clock
        self._end = None if options.timeout is None else clock() + options.timeout
        self._backoff = Backoff(options.reconnect_delay_ms / 1e3, LONGEST_PAUSE)
        self._failures = 0
        self._connected = self._heard = clock()

    @property
    def task(self) -> Task:
        """The latest known state of the task."""
        return self._merger.task

    def steps(self) -> Steps[Task]:
        """Emits every new state of the task; ends with the completed task.

        Raises TaskFailed or TaskCancelled after the last state, APIError if the server rejects a request, StreamError
        if the stream is lost, InferenceTimeout if the timeout expires.
        """
        try:
            if self._first is not None and status_of(self._first) is not None:
                self._merger.task = dict(self._first)
                if (yield from self._told(self.task)):
                    return self._ending()
            while True:
                self._connected = self._heard = self._clock()
                try:
                    yield from self._connection()
                except InferenceError as error:
                    yield Disconnect()
                    pause = self._pause(error)
                else:
                    return self._ending()
                yield Wait(pause)
        except InferenceError as error:
            self.error = error
            raise

    def _connection(self) -> Steps[None]:
        """Returns when the task has ended; raises if the connection ended before."""
        request = _calls.stream(self._settings, self.task_id, self._merger.last_id)
        head = yield Connect(request, self._left(self._settings.timeout), self._left(None))
        raise_for_status(head)
        frames = frames_of(head.media_type)
        while data := (yield Receive(self._left(self._options.idle_timeout))):
            self._heard = self._clock()
            for frame in frames.feed(data):
                if (yield from self._frame(frame)):
                    return
        raise InferenceConnectionError("the server closed the stream before the task ended")

    def _frame(self, frame: Frame) -> Steps[bool]:
        update = self._merger.add(frame)
        if update is None:
            return False
        self._failures = 0
        status = status_of(update)
        if status is not None and status.terminal:
            yield Disconnect()
            if status is TaskStatus.COMPLETED and "output" not in update:  # the server sent partial frames only
                whole = yield from with_retries(
                    _calls.get_task(self._settings, self.task_id), self._settings.retries, self._settings.timeout
                )
                update = self._merger.task = {**update, **whole}
        return (yield from self._told(update))

    def _told(self, update: Task) -> Steps[bool]:
        """Emits a state; returns whether it is the last. The outcome is set first, for callers that stop there."""
        status = status_of(update)
        if status is TaskStatus.COMPLETED:
            self.result = update
        elif status is TaskStatus.FAILED:
            self.error = TaskFailed(update)
        elif status is TaskStatus.CANCELLED:
            self.error = TaskCancelled(update)
        yield Emit(update)
        return status is not None and status.terminal

    def _ending(self) -> Task:
        if self.error is not None:
            raise self.error
        return self.task

    def _left(self, most: float | None) -> Any:
        """Timeout of the next step in seconds; None without limit."""
        if self._end is None:
            return most
        left = self._end - self._clock()
        if left <= 0:
            raise self._late()
        return left if most is None else min(most, left)

    def _late(self) -> InferenceTimeout:
        return InferenceTimeout(f"task {self.task_id} has not ended within {self._options.timeout:g} s; it goes on")

    def _pause(self, error: InferenceError) -> float:
        """Seconds until the next connection; raises if there are no more attempts."""
        if self._end is not None and self._clock() >= self._end:
            raise self._late() from error
        if not can_pass(error, safe=True):
            raise error
        if self._heard - self._connected >= SOUND_SECONDS:
            self._failures = 0
        self._failures += 1
        retry_after = error.retry_after if isinstance(error, APIError) else None
        pause = self._backoff.pause(self._failures, retry_after, chance())
        if not self._options.auto_reconnect or self._failures > self._options.max_reconnects or pause is None:
            if isinstance(error, APIError):
                raise error
            tries = f" ({self._failures} connections brought nothing new)" if self._failures > 1 else ""
            raise StreamError(f"{error}{tries}", self.task_id, self.task) from error
        return pause if self._end is None else min(pause, max(0.0, self._end - self._clock()))
