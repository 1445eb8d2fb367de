"""Splits the output of a pipe into log lines."""

MAX_LINE_BYTES = 1 << 14


class LineSplitter:
    """Splits a stream of bytes into lines.

    A carriage return overwrites the line, as on a terminal: only the last state of a progress bar is kept. Lines longer
    than `MAX_LINE_BYTES` are split, so memory is bounded whatever is printed.
    """

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._pending = (self._pending + data).split(b"\n")
        found = [part for line in lines for part in _parts(_visible(line))]
        if len(self._pending) > MAX_LINE_BYTES or b"\r" in self._pending:
            self._pending = _visible(self._pending, ended=False)
            *whole, self._pending = _parts(self._pending)
            found += whole
        return [_text(line) for line in found]

    def rest(self) -> list[str]:
        """The rest that does not end in a newline."""
        pending, self._pending = _visible(self._pending), b""
        return [_text(part) for part in _parts(pending)] if pending else []


def _visible(line: bytes, *, ended: bool = True) -> bytes:
    if b"\r" not in line:
        return line
    if ended:
        return next((part for part in reversed(line.split(b"\r")) if part), b"")
    last = line.rfind(b"\r", 0, -1)  # one at the very end may be the first half of CRLF
    return line[last + 1 :] if last >= 0 else line


def _parts(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE_BYTES] for start in range(0, len(line), MAX_LINE_BYTES)] or [b""]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
