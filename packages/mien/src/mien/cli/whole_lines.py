"""Lines that Ctrl-C does not cut."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, BinaryIO, Self


class WholeLines:
    """Writes to a file so that an interrupt takes effect between two writes. A second one does at once: whoever reads
    the other end of a pipe may have stopped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writing = False
        self._interrupted = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # the only one that may
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def write(self, lines: bytes) -> None:
        """Write all of them. Raises OSError, KeyboardInterrupt."""
        self._writing = True
        try:
            self._file.write(lines)
            self._file.flush()
        finally:
            self._writing = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._writing and not self._interrupted:
            self._interrupted = True
        else:
            raise KeyboardInterrupt
