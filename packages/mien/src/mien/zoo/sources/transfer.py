"""A download's state on disk: what has arrived and what is known of the whole file, so that any process can resume."""

from collections.abc import Mapping
from io import BufferedWriter
from pathlib import Path

import msgspec

from mien.errors import ModelUnavailable


class _Expected(msgspec.Struct, frozen=True):
    """What the server said of the whole file."""

    validator: str | None = None
    """ETag or Last-Modified: the server resumes only if the file is still that version."""
    total: int | None = None


class Transfer:
    """A `.part` file and its `.json` note. Bytes are only ever appended to bytes of the same version of the file."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self._note = part.with_suffix(".json")
        self._expected = self._read_note()
        if self._expected.validator is None:  # nothing says which version the bytes are of
            self.restart()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._part.stat().st_size if self._part.exists() else 0

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, where the server says so."""
        return self._expected.total

    @property
    def complete(self) -> bool:
        """Whether all bytes are here; without a known total the response's end is the file's end."""
        return self.total is None or self.size == self.total

    def resume_headers(self) -> dict[str, str]:
        """Request headers that ask for the rest only, if the file has not changed."""
        if not self.size or self._expected.validator is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._expected.validator}

    def begin(self, partial: bool, headers: Mapping[str, str]) -> None:
        """Takes note of a response before its body. Starts over unless it is `partial` (206).

        Raises ModelUnavailable when the range is not the one that was asked for.
        """
        if partial:
            self._check_range(headers.get("content-range", ""))
            return
        self.restart()
        length = headers.get("content-length")
        self._expected = _Expected(_validator(headers), int(length) if length else None)
        self._note.write_bytes(msgspec.json.encode(self._expected))

    def open(self) -> BufferedWriter:
        """The part, opened for appending."""
        return self._part.open("ab")

    def restart(self) -> None:
        """Discards what has arrived."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._expected = _Expected()

    def finish(self, target: Path) -> Path:
        """Moves the complete file to `target`."""
        self._part.replace(target)
        self._note.unlink(missing_ok=True)
        return target

    def _read_note(self) -> _Expected:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=_Expected)
        except (FileNotFoundError, msgspec.MsgspecError):
            return _Expected()

    def _check_range(self, content_range: str) -> None:
        expected = f"bytes {self.size}-"
        if not content_range.startswith(expected):
            self.restart()
            raise ModelUnavailable("the server resumed at the wrong offset; pull again to start over")


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("etag")
    # RFC 9110, 13.1.5: a weak entity tag must not be used in If-Range.
    return etag if etag and not etag.startswith("W/") else headers.get("last-modified")
