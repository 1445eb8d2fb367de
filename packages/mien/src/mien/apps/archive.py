"""Unpacks archives of app folders safely: only plain files, within limits, never outside the target."""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mien.apps.package import CHUNK, copy_within
from mien.errors import AppInvalid, MienError

MOST_AT_ONCE = 2 * CHUNK
TAR_OVERHEAD = 8 * 1024
"""Bytes per file for its headers and padding."""
_ZIP_ENTRY = b"PK\x01\x02"
_TOO_LARGE = "the archive's files are larger than an app may be (MIEN_APP_MAX_BYTES)"


def unpack(archive: Path, target: Path, *, max_files: int, max_bytes: int) -> Path:
    """Unpack a zip or tar file to the new directory `target`; returns the app's folder in it. Raises AppInvalid."""
    target.mkdir(mode=0o700)
    left = max_bytes
    try:
        for number, (name, executable, file) in enumerate(_entries(archive, max_files, max_bytes)):
            if number >= max_files:
                raise _too_many(max_files)
            path = target / _safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            left -= _write(file, path, left)
            path.chmod(0o755 if executable else 0o644)
    except MienError:
        raise
    except OSError as error:
        raise AppInvalid(f"the archive cannot be unpacked: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - tarfile and zipfile raise whatever a damaged archive makes them stumble on
        raise AppInvalid(f"the archive cannot be read: {str(error)[:200] or type(error).__name__}") from None
    inner = list(target.iterdir())
    if not (target / "inference.py").exists() and len(inner) == 1 and inner[0].is_dir():
        return inner[0]  # the archive contains the folder, not just its contents
    return target


def _too_many(max_files: int) -> AppInvalid:
    return AppInvalid(f"the archive has more than {max_files} files")


def _require_few_entries(archive: Path, max_files: int) -> None:
    """Before zipfile makes an object of each. Entries of archives inside count, too, hence the margin."""
    found, end = 0, b""
    with archive.open("rb") as file:
        while block := file.read(CHUNK):
            found += (end + block).count(_ZIP_ENTRY)
            end = block[-len(_ZIP_ENTRY) + 1 :]
            if found > 10 * max_files:
                raise _too_many(max_files)


class _TarFile(tarfile.TarFile):
    """Reads at most `most` bytes of a tar, unpacked, and little at a time: it reads headers as large as they say."""

    def __init__(self, name: Any, mode: Any, fileobj: Any, *, most: int, **options: Any) -> None:
        bounded: Any = _Bounded(fileobj, most)
        super().__init__(name, mode, bounded, **options)


def _opened_tar(file: IO[bytes], most: int) -> tarfile.TarFile | None:
    """None for what is no tar. `tarfile.is_tarfile` would read the first header, whatever its size."""
    open_tar: Any = _TarFile.open  # typed without the options that it passes on
    try:
        tar: tarfile.TarFile = open_tar(fileobj=file, most=most)
    except tarfile.ReadError:
        return None
    return tar


class _Bounded:
    """A file of which only so much can be read."""

    def __init__(self, file: Any, most: int) -> None:
        self._file = file
        self._left = most
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int) -> bytes:
        if size > MOST_AT_ONCE:
            raise AppInvalid("the archive cannot be read: a header is too large")
        data: bytes = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise AppInvalid(_TOO_LARGE)
        return data


def _entries(archive: Path, max_files: int, max_bytes: int) -> Iterator[tuple[str, bool, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        _require_few_entries(archive, max_files)
        with zipfile.ZipFile(archive) as packed:
            yield from _zip_entries(packed)
        return
    with archive.open("rb") as file:
        tar = _opened_tar(file, max_bytes + max_files * TAR_OVERHEAD)
        if tar is None:
            raise AppInvalid("the body is neither a zip nor a tar file; pack the app's folder")
        with tar:
            yield from _tar_entries(tar)


def _zip_entries(packed: zipfile.ZipFile) -> Iterator[tuple[str, bool, IO[bytes]]]:
    for entry in packed.infolist():
        mode = entry.external_attr >> 16
        if entry.is_dir():
            continue
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _not_plain(entry.filename)
        with packed.open(entry) as file:
            yield entry.filename, bool(mode & stat.S_IXUSR), file


def _tar_entries(packed: tarfile.TarFile) -> Iterator[tuple[str, bool, IO[bytes]]]:
    for member in packed:
        if member.size < 0:
            raise tarfile.ReadError("a size is negative")
        if member.isdir():
            continue
        content = packed.extractfile(member) if member.isreg() else None
        if content is None:
            raise _not_plain(member.name)
        with content:
            yield member.name, bool(member.mode & stat.S_IXUSR), content


def _not_plain(name: str) -> AppInvalid:
    return AppInvalid(f"{name[:100]} is a link or special file; apps may hold only plain files")


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or not parts or ".." in parts or "\\" in name or "\0" in name:
        raise AppInvalid(f"the archive contains {name[:100]!r}, a path outside the app's folder")
    return PurePosixPath(*parts)


def _write(source: IO[bytes], target: Path, limit: int) -> int:
    with target.open("xb") as file:
        size = copy_within(limit, source, file.write)
    if size is None:
        raise AppInvalid(_TOO_LARGE)
    return size
