"""The progress of a task on the terminal: status and fraction on one line of stderr, its log above."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO, TypeAlias

from inferencesh._status import Task, status_of
from inferencesh.errors import log_lines

Progress: TypeAlias = Callable[[Task], Any]
"""Called with each new state of a task."""
BAR = 24  # characters


class Bar:
    """`running  40 %  [##########              ]  step 4 of 10  0:12`; redrawn in place on a terminal."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._logs: list[Any] = []
        self._width = 0
        self._shown = ""

    def __call__(self, task: Task) -> None:
        """Show a new state."""
        text = line(task)
        fresh, self._logs = new_logs(self._logs, list(task.get("logs") or ()))
        if self._stream.isatty():
            self._stream.write("\r" + " " * self._width + "\r")
        self._stream.writelines(f"{entry}\n" for entry in fresh)
        status = status_of(task)
        ended = status is not None and status.terminal
        if self._stream.isatty():
            seconds = round(self._clock() - self._started)
            shown = f"{text}  {seconds // 60}:{seconds % 60:02}"
            self._stream.write(shown + ("\n" if ended else ""))
            self._width = len(shown)
        elif text != self._shown:
            self._stream.write(text + "\n")
        self._shown = text
        self._stream.flush()


def reporter(progress: bool | Progress) -> Progress | None:
    """The reporter for a `progress=` argument."""
    if callable(progress):
        return progress
    return Bar() if progress else None


def line(task: Task) -> str:
    """One line about a task's state."""
    status = status_of(task)
    parts = ["unknown" if status is None else status.name.lower().replace("_", " ")]
    fraction, message = fraction_of(task)
    if fraction is not None:
        share = min(1.0, max(0.0, fraction))
        parts += [f"{share:4.0%}", f"[{('#' * round(BAR * share)).ljust(BAR)}]"]
    return "  ".join([*parts, *([message] if message else [])])


def fraction_of(task: Task) -> tuple[float | None, str]:
    """The fraction, 0..1, and message reported by the app."""
    reported: Any = task.get("progress")
    message = task.get("progress_message")
    if isinstance(reported, dict):
        message = reported.get("message", message)
        reported = reported.get("fraction")
    fraction = float(reported) if isinstance(reported, int | float) and not isinstance(reported, bool) else None
    return fraction, str(message or "")


def new_logs(old: list[Any], new: list[Any]) -> tuple[list[str], list[Any]]:
    """The lines of `new` that are not in `old`, and `new` itself. Recognises a log that was truncated at its start."""
    known = len(old)
    if new[:known] != old:
        known = next((new.index(entry) + 1 for entry in reversed(old) if entry in new), 0)
    return log_lines({"logs": new[known:]}), new
