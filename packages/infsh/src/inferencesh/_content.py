"""What can be uploaded: bytes, files on disk, open files; read in chunks, as often as needed."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from inferencesh._options import UploadFileOptions
from inferencesh.errors import UploadError
from infsh import File, _data_uri, _mime
from infsh._errors import FileUnavailable

PIECE = 1 << 18  # bytes held in memory at a time
IN_MEMORY = 1 << 20  # bytes of an unseekable file that are kept in memory
LONGEST_PATH = 4096  # characters
DEFAULT_TYPE = "application/octet-stream"
Uploadable: TypeAlias = "str | bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes] | File"


class Body(Protocol):
    """The body of a request, sent in pieces."""

    def pieces(self) -> Iterator[bytes]:
        """The bytes; may be called more than once. Blocks; raises UploadError."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to upload, and what is known about them."""

    source: "bytes | Path | OpenFile"
    size: int
    filename: str | None = None
    content_type: str | None = None
    path: str | None = None
    """The path on the server, if the caller sets one."""
    public: bool | None = None

    def pieces(self) -> Iterator[bytes]:
        """The bytes. Blocks; raises UploadError."""
        if isinstance(self.source, bytes):
            yield self.source
            return
        left = self.size
        with _reading(self.source) as file:
            while left:
                try:
                    piece = file.read(min(PIECE, left))
                except OSError as error:
                    raise _unreadable(self._place, error) from error
                if not piece:
                    raise UploadError(f"{self._place} became shorter while it was being read")
                left -= len(piece)
                yield piece

    def digest(self) -> bytes:
        """Identifies equal contents. Blocks."""
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece)
        return found.digest()

    def close(self) -> None:
        """Remove temporary data of this upload."""
        if isinstance(self.source, OpenFile):
            self.source.close()

    def named(self, options: UploadFileOptions | None) -> "Content":
        """With the caller's options in place of detected values."""
        if options is None:
            return self
        kind = options.content_type or self.content_type or (_mime.from_name(options.filename or ""))
        return replace(
            self,
            filename=options.filename or self.filename,
            content_type=kind,
            path=options.path,
            public=options.public,
        )

    @property
    def _place(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else self.filename or "an open file"


class OpenFile:
    """A file that the caller has opened; read from its current position, which is restored."""

    def __init__(self, file: IO[bytes]) -> None:
        self.spool: IO[bytes] | None = None
        self.name = _name_of(file)
        try:
            seekable = file.seekable()
        except AttributeError:
            seekable = False
        if not seekable:
            file = self.spool = _spooled(file, self.name)
        self.file = file
        self.start = file.tell()
        self.size = max(0, file.seek(0, os.SEEK_END) - self.start)
        file.seek(self.start)

    def __enter__(self) -> IO[bytes]:
        self.file.seek(self.start)
        return self.file

    def __exit__(self, *_: object) -> None:
        if not self.file.closed:
            self.file.seek(self.start)

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()


def content_of(value: Uploadable, *, base64_too: bool) -> Content:
    """The content of an argument of `upload_file`. Raises UploadError, or TypeError for other types."""
    if isinstance(value, str):
        if value[:5].lower() == "data:":
            return of_data_uri(value)
        if is_file(value):
            return of_path(Path(value))
        if base64_too and (data := from_base64(value)) is not None:
            return Content(data, len(data))
        raise UploadError(f"{_short(value)} is neither a file nor a data: URI (base64 needs upload_base64=True)")
    found = of_object(value)
    if found is None:
        raise TypeError(
            f"a {type(value).__name__} cannot be uploaded: give a path, bytes, a data: URI, a File or an open file"
        )
    return found


def of_object(value: Any) -> Content | None:
    """The content of an object that is not a string; None if it has none. Raises UploadError."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return Content(data, len(data))
    if isinstance(value, File):
        return of_file(value)
    if isinstance(value, os.PathLike):
        return of_path(Path(value))
    if callable(getattr(value, "read", None)):
        if isinstance(value.read(0), str):
            raise TypeError(f"{_name_of(value) or 'the open file'} is opened in text mode: open it with mode 'rb'")
        opened = OpenFile(value)
        return Content(opened, opened.size, opened.name, _mime.from_name(opened.name) if opened.name else None)
    return None


def of_path(path: Path) -> Content:
    """A local file."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UploadError(f"{path} is not a file; pass str(path) to send its name")
    return Content(path, status.st_size, path.name, _mime.from_name(path.name) or _mime.from_content(path))


def of_file(file: File) -> Content:
    """A `File`'s content, with the metadata that it specifies."""
    if file.uri is not None and file.uri[:5].lower() == "data:":
        found = of_data_uri(file.uri)
    else:
        found = of_path(Path(file.path))
    return replace(
        found, filename=file.filename or found.filename, content_type=file.content_type or found.content_type
    )


def remote_uri(file: File) -> str | None:
    """The URL of a file that is already stored elsewhere."""
    return file.uri if file.uri is not None and file.uri.lower().startswith(("http://", "https://", "inf://")) else None


def of_data_uri(uri: str) -> Content:
    """The content of a `data:` URI. Raises UploadError."""
    try:
        head, data = _data_uri.header(uri), _data_uri.decode(uri)
    except FileUnavailable as error:
        raise UploadError(f"{_short(uri)}: {error}") from error
    return Content(data, len(data), head.filename, head.content_type)


def is_file(text: str) -> bool:
    """Whether the text is the path of an existing file (not a directory or URL)."""
    return 0 < len(text) <= LONGEST_PATH and "\n" not in text and os.path.isfile(text)  # noqa: PTH113 - takes any text


def from_base64(text: str) -> bytes | None:
    """The bytes of a base64 text of some length; None if it is not base64."""
    if len(text) < 16 or len(text) % 4:
        return None
    try:
        return _data_uri.decode(f"data:;base64,{text}") if text.rstrip("=").isascii() and "%" not in text else None
    except FileUnavailable:
        return None


def _reading(source: Path | OpenFile) -> Any:
    if isinstance(source, OpenFile):
        return source
    try:
        return source.open("rb")
    except OSError as error:
        raise _unreadable(str(source), error) from error


def _spooled(file: IO[bytes], name: str | None) -> IO[bytes]:
    spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed once it is uploaded
    try:
        while piece := file.read(PIECE):
            spool.write(piece)
        spool.seek(0)
    except OSError as error:
        spool.close()
        raise _unreadable(name or "an open file", error) from error
    return spool


def _name_of(file: Any) -> str | None:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) and name[:1] not in ("", "<") else None


def _unreadable(place: str, error: Exception) -> UploadError:
    return UploadError(f"{place}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
