"""Progress of a long run: reported to a function, or as one line of text on stderr."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO, TypeAlias

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of images done and in total, None if unknown."""
REDRAW_SECONDS = 0.1
BAR = 24  # characters


class TextBar:
    """`120/1000  12 %  [###      ]  35.1 images/s  0:25 left`, redrawn in place on a terminal."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._drawn_at: float | None = None
        self._width = 0

    def __call__(self, done: int, total: int | None) -> None:
        now = self._clock()
        if self._stream.isatty() and (self._drawn_at is None or now - self._drawn_at >= REDRAW_SECONDS):
            self._drawn_at = now
            self._draw(line(done, total, now - self._started))

    def finish(self, done: int, total: int | None) -> None:
        """Draw the final state; if stderr is not a terminal, this is the only line."""
        self._draw(line(done, total, self._clock() - self._started))
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self, text: str) -> None:
        start = "\r" if self._stream.isatty() else ""
        self._stream.write(start + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)


class Silent:
    """No progress."""

    def __call__(self, done: int, total: int | None) -> None:
        pass

    def finish(self, done: int, total: int | None) -> None:
        pass


class Reporting(Silent):
    """The caller's function."""

    def __init__(self, report: Progress) -> None:
        self._report = report

    def __call__(self, done: int, total: int | None) -> None:
        self._report(done, total)


Reporter: TypeAlias = TextBar | Silent


def reporter(progress: bool | Progress) -> Reporter:
    """The reporter for a `progress=` argument."""
    if callable(progress):
        return Reporting(progress)
    return TextBar() if progress else Silent()


def line(done: int, total: int | None, seconds: float) -> str:
    """One line of the bar."""
    rate = done / seconds if seconds > 0 else 0.0
    if total is None:
        return f"{done} images  {rate:.1f} images/s"
    share = min(1.0, done / total) if total else 1.0
    bar = ("#" * round(BAR * share)).ljust(BAR)
    left = f"  {_clock_time((total - done) / rate)} left" if rate > 0 and done < total else ""
    return f"{done}/{total}  {share:4.0%}  [{bar}]  {rate:.1f} images/s{left}"


def _clock_time(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


def length_of(items: Any) -> int | None:
    """Their number, if it is known without iterating."""
    try:
        return len(items)
    except TypeError:
        return None
