"""The threads in which an app's plain functions run, and how such a function is interrupted."""

import contextlib
import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Interrupted(BaseException):
    """Raised in an app's function that was cancelled and did not return by itself."""


class Call:
    """One function call in an `AppThread`."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._function = function
        self._context = contextvars.copy_context()
        self._gate = threading.Lock()
        self._thread_id: int | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """Raises `Interrupted` in the function before its next Python instruction; C code is not interrupted."""
        with self._gate:
            if self._thread_id is not None:
                self._interrupted = True
                _raise_in(self._thread_id, Interrupted)

    def execute(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self._settle()
        except Interrupted as error:  # arrived between the function's end and the closing of the gate
            if not self.future.done():
                self.future.set_exception(error)

    def _settle(self) -> None:
        try:
            with self._gate:
                self._thread_id = threading.get_ident()
            value = self._context.run(self._function)
        except StopIteration as error:  # which no future can carry
            self._close()
            raised = RuntimeError(f"the function raised StopIteration({error.value!r})")
            self.future.set_exception(raised.with_traceback(error.__traceback__))
        except BaseException as error:  # noqa: BLE001  # an app may raise anything; the future carries it
            self._close()
            self.future.set_exception(error)
        else:
            self._close()
            self.future.set_result(value)

    def _close(self) -> None:
        with self._gate:
            thread_id, self._thread_id = self._thread_id, None
            if self._interrupted and thread_id is not None:
                _raise_in(thread_id, None)


class AppThreads:
    """As many threads as the app has concurrent runs. With one, all its plain functions share that thread."""

    def __init__(self, count: int) -> None:
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._count = count
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], Any]) -> Call:
        """Starts the call as soon as a thread is free."""
        call = Call(function)
        with self._lock:
            if self._idle == 0 and len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name=f"app-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            else:
                self._idle = max(0, self._idle - 1)
        self._calls.put(call)
        return call

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            with contextlib.suppress(Interrupted):
                call.execute()
            with self._lock:
                self._idle += 1


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    target = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), target)
