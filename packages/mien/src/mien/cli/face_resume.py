"""Going on with a file of records: what it holds of unchanged images is done, everything else is dropped from it."""

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from mien.cli.face_records import Record, Records, path_text, state_of
from mien.errors import RequestError
from mien.library.walk import ImageFile
from mien.locks import try_lock


class Done:
    """Images that need not be looked at again. As 16 bytes each: folders can hold hundreds of thousands."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, path: Path, state: tuple[int, str]) -> None:
        """The file in that state is done."""
        self._digests.add(_digest(path, state))

    def __contains__(self, file: ImageFile) -> bool:
        return _digest(file.path, state_of(file)) in self._digests

    def __len__(self) -> int:
        return len(self._digests)


def resume(target: Path, records: Records, made_by: str) -> Done:
    """What `target` holds of images as they are now. Records of others, failures, and a last one that was cut off are
    removed from it.

    Raises RequestError if it is no file of records, is being written, or comes from other models or options; OSError.
    """
    done = Done()
    kept = _Ranges(len(records.header))
    with target.open("rb") as file:
        require_alone(file, target)
        size = os.fstat(file.fileno()).st_size
        if size <= len(records.header) and records.header.startswith(file.read()):  # killed before the first record
            target.write_bytes(records.header)
            return done
        file.seek(0)
        try:
            for record in records.read(file):
                if not record.failed and record.made_by != made_by:
                    raise RequestError(
                        f"it was made with other models or options ({record.made_by}; now {made_by}); "
                        "repeat those, or write to another file"
                    )
                if not record.failed and not _has_changed(record):
                    done.add(record.path, record.state)
                    kept.add(record.start, record.end)
        except RequestError as error:
            raise RequestError(f"{target} cannot be resumed: {error.message}") from None
        kept.apply(target, file, size)
    return done


def require_alone(file: BinaryIO, target: Path) -> None:
    """Lock the open file against further commands until it is closed. Raises RequestError if another one has it."""
    with contextlib.suppress(OSError):  # file systems without locks
        if try_lock(file.fileno()):
            return
        raise RequestError(f"another command is writing to {target}")


class _Ranges:
    """The parts of a file that stay, after its header."""

    def __init__(self, header: int) -> None:
        self._ranges = [(0, header)]

    def add(self, start: int, end: int) -> None:
        before = self._ranges[-1]
        if before[1] == start:
            self._ranges[-1] = before[0], end
        else:
            self._ranges.append((start, end))

    def apply(self, target: Path, file: BinaryIO, size: int) -> None:
        """Leave only these parts in `target`, which is open as `file`; its end is cut, more than that makes a copy."""
        end = self._ranges[-1][1]
        if len(self._ranges) == 1:
            if end < size:
                os.truncate(target, end)
            return
        copy = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with copy.open("xb") as written:
                for start, stop in self._ranges:
                    file.seek(start)
                    _copy(file, written, stop - start)
            shutil.copymode(target, copy)
            copy.replace(target)
        finally:
            copy.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0 and (part := source.read(min(size, 1 << 20))):
        target.write(part)
        size -= len(part)


def _has_changed(record: Record) -> bool:
    """Whether the file is another one by now. One that cannot be reached, as on a disk that is not mounted, is not."""
    try:
        found = record.path.stat()
    except (OSError, ValueError):
        return False
    return state_of(ImageFile(record.path, found.st_size, found.st_mtime_ns)) != record.state


def _digest(path: Path, state: tuple[int, str]) -> bytes:
    text = f"{path_text(path)}\0{state[0]}\0{state[1]}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
