"""Unpacks archives of app folders safely: only plain files, within limits, never outside the target."""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from mien.apps.package import copy_within
from mien.errors import AppInvalid


def unpack(archive: Path, target: Path, *, max_files: int, max_bytes: int) -> Path:
    """Unpack a zip or tar file to the new directory `target`; returns the app's folder in it. Raises AppInvalid."""
    target.mkdir(mode=0o700)
    left = max_bytes
    try:
        for number, (name, executable, file) in enumerate(_entries(archive)):
            if number >= max_files:
                raise AppInvalid(f"the archive has more than {max_files} files")
            path = target / _safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            left -= _write(file, path, left)
            path.chmod(0o755 if executable else 0o644)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise AppInvalid(f"the archive cannot be read: {error}") from None
    except OSError as error:
        raise AppInvalid(f"the archive cannot be unpacked: {error.strerror or error}") from None
    inner = list(target.iterdir())
    if not (target / "inference.py").exists() and len(inner) == 1 and inner[0].is_dir():
        return inner[0]  # the archive contains the folder, not just its contents
    return target


def _entries(archive: Path) -> Iterator[tuple[str, bool, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                mode = entry.external_attr >> 16
                if entry.is_dir():
                    continue
                if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise AppInvalid(
                        f"{entry.filename[:100]} is a link or special file; apps may hold only plain files"
                    )
                with packed.open(entry) as file:
                    yield entry.filename, bool(mode & stat.S_IXUSR), file
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed_tar:
            for member in packed_tar:
                if member.isdir():
                    continue
                content = packed_tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise AppInvalid(f"{member.name[:100]} is a link or special file; apps may hold only plain files")
                with content:
                    yield member.name, bool(member.mode & stat.S_IXUSR), content
    else:
        raise AppInvalid("the body is neither a zip nor a tar file; pack the app's folder")


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
        raise AppInvalid("the archive's files are larger than an app may be (MIEN_APP_MAX_BYTES)")
    return size
