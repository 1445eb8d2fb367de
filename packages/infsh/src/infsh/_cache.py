"""The cache of downloaded files: atomic, bounded, revalidated with ETag and Last-Modified.

One directory per URL contains `entry.json` and a subdirectory for each version of the content. A cached file never
changes: a new version gets a new path, so a reader never sees a partial file or a mix of two versions.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infsh import _data_uri, _mime
from infsh._errors import FileUnavailable
from infsh._places import cache_dir

_GIB = 1 << 30
_STALE_TEMPORARY = 24 * 3600.0
_REPLACED = 600.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d+)")
_UNSAFE = re.compile(r"[^\w.()+ -]+")
_locks: dict[str, threading.Lock] = {}
_locks_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached file."""

    version: str
    """The directory of the content."""
    name: str
    size: int
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fresh_until: float = 0.0
    """Unix time before which the copy is used without revalidation."""


class FileCache:
    """Files by URL below one directory.

    `limit` bounds all files together and `file_limit` each of them, in bytes. Least recently used files are evicted
    first; those used within the last `keep` seconds are kept, so that no app loses a file it is about to open.
    """

    def __init__(
        self, root: Path | None = None, *, limit: int | None = None, file_limit: int | None = None, keep: float = 600.0
    ) -> None:
        self._root = (root or cache_dir()) / "files"
        self._limit = _bytes("INFSH_CACHE_BYTES", 20 * _GIB) if limit is None else limit
        self._file_limit = _bytes("INFSH_MAX_FILE_BYTES", 10 * _GIB) if file_limit is None else file_limit
        self._keep = keep

    def url(self, url: str, abort: threading.Event | None = None) -> tuple[Path, str | None]:
        """The file and, if known, its media type. Downloads it, or revalidates the cached copy.

        If the server cannot be reached, the copy is used unchecked. Raises FileUnavailable.
        """
        folder = self._folder(url)
        with _lock(str(folder)):
            return self._current(url, folder, abort)

    def data(self, uri: str) -> Path:
        """The decoded file of a `data:` URI. Raises FileUnavailable."""
        folder = self._folder(uri)
        with _lock(str(folder)):
            entry = _load(folder)
            if entry is None:
                data, head = _data_uri.decode(uri), _data_uri.header(uri)
                name = _safe(head.filename or f"file{_mime.extension(head.content_type)}")
                entry = self._store(folder, Entry("", name, len(data)), lambda target: _write(target, data))
            return _used(folder, entry)

    def _current(self, url: str, folder: Path, abort: threading.Event | None) -> tuple[Path, str | None]:
        from infsh._http import Unreachable, fetch  # lazily: only apps that download need the HTTP client

        entry = _load(folder)
        if entry is not None and time.time() < entry.fresh_until:
            return _used(folder, entry), entry.content_type
        temporary = self._temporary()
        try:
            reply = fetch(url, temporary, limit=self._file_limit, headers=_conditions(entry), abort=abort)
        except Unreachable:
            if entry is None:
                raise
            return _used(folder, entry), entry.content_type
        if reply.unchanged and entry is not None:
            entry = Entry(**{**asdict(entry), "fresh_until": _fresh_until(reply.headers)})
            _save_entry(folder, entry)
        else:
            entry = self._store(folder, _entry(url, reply.headers, reply.size), temporary.rename)
        return _used(folder, entry), entry.content_type

    def _store(self, folder: Path, entry: Entry, put: Callable[[Path], object]) -> Entry:
        old = _load(folder)
        entry = Entry(**{**asdict(entry), "version": secrets.token_hex(8)})
        try:
            content = folder / entry.version / entry.name
            content.parent.mkdir(parents=True)
            put(content)
            _save_entry(folder, entry)
        except OSError as error:
            raise FileUnavailable(f"the cache {self._root} is not writable: {error.strerror}") from error
        if old is not None:
            _forget_versions(folder, keep={old.version, entry.version})
        self._evict(folder)
        return entry

    def _folder(self, key: str) -> Path:
        return self._root / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _temporary(self) -> Path:
        folder = self._root / ".tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileUnavailable(f"the cache {self._root} is not writable: {error.strerror}") from error
        return folder / secrets.token_hex(16)

    def _evict(self, newest: Path) -> None:
        now = time.time()
        for temporary in (self._root / ".tmp").glob("*"):
            with contextlib.suppress(OSError):
                if now - temporary.stat().st_mtime > _STALE_TEMPORARY:
                    temporary.unlink()
        sizes = {folder: _sizes(folder) for folder in self._root.iterdir() if not folder.name.startswith(".")}
        total = sum(size for size, _ in sizes.values())
        for folder, (size, used) in sorted(sizes.items(), key=lambda item: item[1][1]):
            if total <= self._limit:
                return
            if folder != newest and now - used >= self._keep:
                _remove(folder)
                total -= size


def _lock(key: str) -> threading.Lock:
    with _locks_guard:
        return _locks.setdefault(key, threading.Lock())


def _bytes(variable: str, default: int) -> int:
    given = os.environ.get(variable)
    if not given:
        return default
    if not given.isdigit():
        raise FileUnavailable(f"{variable} must be a number of bytes, not {given!r}")
    return int(given)


def _load(folder: Path) -> Entry | None:
    try:
        entry = Entry(**json.loads((folder / "entry.json").read_bytes()))
        whole = (folder / entry.version / entry.name).stat().st_size == entry.size
    except (OSError, ValueError, TypeError):
        return None
    return entry if whole else None


def _save_entry(folder: Path, entry: Entry) -> None:
    temporary = folder / f".{secrets.token_hex(8)}"
    temporary.write_text(json.dumps(asdict(entry)))
    temporary.replace(folder / "entry.json")


def _write(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    temporary.write_bytes(data)
    temporary.rename(target)


def _used(folder: Path, entry: Entry) -> Path:
    with contextlib.suppress(OSError):
        os.utime(folder / "entry.json")
    return folder / entry.version / entry.name


def _forget_versions(folder: Path, keep: set[str]) -> None:
    """Removes versions replaced some time ago; another process may be about to open the one just replaced."""
    for version in folder.iterdir():
        with contextlib.suppress(OSError):
            if version.is_dir() and version.name not in keep and time.time() - version.stat().st_mtime > _REPLACED:
                shutil.rmtree(version, ignore_errors=True)


def _remove(folder: Path) -> None:
    (folder / "entry.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _sizes(folder: Path) -> tuple[int, float]:
    """Total size of a directory in bytes, and when it was last used."""
    total, used = 0, 0.0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.is_file():
                total += status.st_size
            if path.name == "entry.json":
                used = status.st_mtime
    return total, used


def _conditions(entry: Entry | None) -> dict[str, str]:
    headers = {}
    if entry is not None and entry.etag:
        headers["If-None-Match"] = entry.etag
    if entry is not None and entry.last_modified:
        headers["If-Modified-Since"] = entry.last_modified
    return headers


def _entry(url: str, headers: Mapping[str, str], size: int) -> Entry:
    name = url_name(url)
    announced = headers.get("content-type", "").partition(";")[0].strip().lower()
    content_type = announced if announced not in {"", "application/octet-stream", "binary/octet-stream"} else None
    return Entry(
        version="",
        name=name or "download",
        size=size,
        content_type=_mime.from_name(name) or content_type,
        etag=headers.get("etag"),
        last_modified=headers.get("last-modified"),
        fresh_until=_fresh_until(headers),
    )


def _fresh_until(headers: Mapping[str, str]) -> float:
    control = headers.get("cache-control", "").lower()
    age = _MAX_AGE.search(control)
    if age is None or "no-cache" in control or "no-store" in control:
        return 0.0
    return time.time() + min(int(age[1]), 365 * 86400)


def url_name(url: str) -> str:
    """The last segment of a URL's path as a safe file name; may be empty."""
    return _safe(unquote(urlsplit(url).path).rpartition("/")[2])


def _safe(name: str) -> str:
    cleaned = _UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip(". ")
    stem, suffix = os.path.splitext(cleaned)  # noqa: PTH122  # of a name, not a path
    return stem[:120] + suffix[:16] if cleaned else ""
