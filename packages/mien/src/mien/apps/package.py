"""Reading and copying an app's folder: its files, manifest and requirements."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from mien.apps.manifest import AppManifest, read_manifest
from mien.errors import AppInvalid

IGNORED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".venv",
        "venv",
        "node_modules",
        ".infsh",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".tox",
        ".idea",
        ".vscode",
        ".DS_Store",
    }
)
IGNORED_SUFFIXES = (".pyc", ".pyo")
CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """Maximum size and number of files of a package."""

    bytes: int = 512 * CHUNK
    files: int = 10_000


@dataclass(frozen=True, slots=True)
class AppPackage:
    """A valid app folder."""

    folder: Path
    manifest: AppManifest
    files: tuple[PurePosixPath, ...]
    """Relative to the folder, sorted."""
    size: int
    """Total size of the files in bytes."""
    requirements: str
    """The text of requirements.txt; empty without one."""
    packages: tuple[str, ...]
    """System packages listed in packages.txt; they are not installed."""


def read_package(folder: Path, limits: PackageLimits) -> AppPackage:
    """Read an app's folder without running any of its code. Raises AppInvalid."""
    if not folder.is_dir():
        raise AppInvalid(f"{folder} is not a folder; an app is a folder with inference.py and inf.yml")
    files, size = _files(folder, limits)
    if PurePosixPath("inference.py") not in files:
        raise AppInvalid(
            f"{folder.name} has no inference.py, which must define the class App (or one subclass of BaseApp)"
        )
    return AppPackage(
        folder,
        read_manifest(folder),
        files,
        size,
        _text(folder, "requirements.txt"),
        tuple(_lines(_text(folder, "packages.txt"))),
    )


def copy_package(package: AppPackage, target: Path) -> str:
    """Copy the files to the new directory `target` and return their version: a SHA-256 of names, modes and contents.

    The version matches the bytes that were copied, even if the folder is modified meanwhile. Raises AppInvalid.
    """
    target.mkdir()
    version = hashlib.sha256()
    left = package.size + CHUNK
    for name in package.files:
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        source = package.folder / name
        executable = bool(source.stat().st_mode & stat.S_IXUSR)
        digest, size = _copy(source, destination, left)
        left -= size
        destination.chmod(0o755 if executable else 0o644)
        version.update(f"{digest} {'x' if executable else '-'} {name}\n".encode())
    return version.hexdigest()


def copy_within(limit: int, source: IO[bytes], *sinks: Callable[[bytes], object]) -> int | None:
    """Copy `source` to each sink; returns the number of bytes, or None once it exceeds `limit`."""
    size = 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        if size > limit:
            return None
        for sink in sinks:
            sink(chunk)
    return size


def _copy(source: Path, destination: Path, limit: int) -> tuple[str, int]:
    digest = hashlib.sha256()
    with source.open("rb") as reader, destination.open("xb") as writer:
        size = copy_within(limit, reader, digest.update, writer.write)
        if size is None:
            raise AppInvalid(f"{source.name} is growing while it is copied; deploy again once it is complete")
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest(), size


def _files(folder: Path, limits: PackageLimits) -> tuple[tuple[PurePosixPath, ...], int]:
    root = folder.resolve()
    files, size = [], 0
    for path in _walk(folder):
        resolved = path.resolve()
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if not resolved.is_relative_to(root):
            raise AppInvalid(f"{name} is a link to a path outside the app's folder; copy the file into the folder")
        if not resolved.is_file():
            raise AppInvalid(f"{name} is a special file or a link to a folder; apps may hold only plain files")
        files.append(name)
        size += resolved.stat().st_size
        if len(files) > limits.files:
            raise AppInvalid(f"the app has more than {limits.files} files; keep large data outside its folder")
        if size > limits.bytes:
            raise AppInvalid(
                f"the app has more than {limits.bytes} bytes; fetch large data, such as weights, in setup()"
            )
    return tuple(sorted(files)), size


def _walk(folder: Path) -> Iterator[Path]:
    """All files and links, recursively; links to folders are not followed."""
    with os.scandir(folder) as scan:
        entries = list(scan)
    for entry in entries:
        if entry.name in IGNORED or entry.name.endswith(IGNORED_SUFFIXES):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (UnicodeDecodeError, OSError) as error:
        raise AppInvalid(f"{name} cannot be read as UTF-8 text: {error}") from error


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        content = line.partition("#")[0].strip()
        if content:
            yield content
