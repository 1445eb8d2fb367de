"""What has arrived of a download and what is known of the whole: enough to go on in another process."""

from collections.abc import Mapping
from io import BufferedWriter
from pathlib import Path

import msgspec

from mien.errors import ModelUnavailable


class _Whole(msgspec.Struct, frozen=True):
    validator: str | None = None
    """ETag or Last-Modified: the server resumes only if the file is still that one."""
    total: int | None = None


class Transfer:
    """A `.part` file and its note. Bytes are only ever appended to what the same version of the file gave."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self._note = part.with_suffix(".json")
        self._whole = self._read_note()
        if self._whole.validator is None:
            self.restart()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._part.stat().st_size if self._part.exists() else 0

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, where the server says so."""
        return self._whole.total

    @property
    def complete(self) -> bool:
        """Whether all bytes are here; without a known total the response's end is the file's end."""
        return self.total is None or self.size == self.total

    def resume_headers(self) -> dict[str, str]:
        """Request headers that ask for the rest only, if the file has not changed."""
        if not self.size or self._whole.validator is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._whole.validator}

    def begin(self, partial: bool, headers: Mapping[str, str]) -> None:
        """Takes note of a response before its body; unless it is `partial` (206), all starts from zero."""
        if partial:
            self._check_range(headers.get("content-range", ""))
            return
        self.restart()
        length = headers.get("content-length")
        self._whole = _Whole(_validator(headers), int(length) if length else None)
        self._note.write_bytes(msgspec.json.encode(self._whole))

    def open(self) -> BufferedWriter:
        """The part, open to append."""
        return self._part.open("ab")

    def restart(self) -> None:
        """Forgets what arrived."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._whole = _Whole()

    def finish(self, target: Path) -> Path:
        """Moves the complete file to `target`."""
        self._part.replace(target)
        self._note.unlink(missing_ok=True)
        return target

    def _read_note(self) -> _Whole:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=_Whole)
        except (FileNotFoundError, msgspec.MsgspecError):
            return _Whole()

    def _check_range(self, content_range: str) -> None:
        expected = f"bytes {self.size}-"
        if not content_range.startswith(expected):
            self.restart()
            raise ModelUnavailable("the server resumed at a wrong place; pull again to start afresh")


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("etag")
    # RFC 9110, 13.1.5: a weak entity tag must not be used in If-Range.
    return etag if etag and not etag.startswith("W/") else headers.get("last-modified")
