"""`File`: an input or output file of an app, local or remote."""

import asyncio
import os
import re
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from infsh import _data_uri, _mime
from infsh._cache import FileCache, url_name
from infsh._caller import SERVER_FILE, CallerRules, caller_rules, download
from infsh._errors import FileUnavailable

MARK_LOCAL = "infsh_mark_local"
"""Key of a serialisation context: the value, a string, becomes the only key of a file that has to be uploaded."""
NOTE_MISSING = "infsh_note_missing"
"""Key of a serialisation context: paths of missing files are appended to its value, a list."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*(?=://)")
_NEITHER = "Either 'uri' or 'path' must be provided"
_NOT_FROM_CALLERS = (
    "a file must be an http(s) URL, a data: URI or an upload; paths are not accepted, except below the directories in "
    "the server's MIEN_APP_INPUT_DIRS"
)
_KEYS = ("uri", "path", "content_type", "size", "filename")
_TYPES = {"uri": str, "path": (str, os.PathLike), "content_type": str, "size": int, "filename": str}


class File:
    """A local path, an http(s) or file URL, or a `data:` URI, with its metadata.

    Nothing is downloaded before it is needed: `await file.ensure()` fetches the content without blocking the event
    loop, and `path` does the same, blocking. `content_type`, `filename` and `size` (bytes) are the given values, else
    those detected from the content; None as long as they are unknown.
    """

    uri: str | None
    _from_caller: bool
    """Whether it came from a client, so that the server downloads it, and not this process."""
    _run_id: str | None
    """The run of that client; None: the setup."""

    def __init__(
        self,
        value: Any = None,
        *,
        uri: str | None = None,
        path: str | os.PathLike[str] | None = None,
        content_type: str | None = None,
        size: int | None = None,
        filename: str | None = None,
        **unknown: Any,
    ) -> None:
        """`value` is a URI, a path, another `File` or a dict of the keyword arguments; unknown ones are ignored.

        Raises ValueError if neither a URI nor a path is given, or a value has the wrong type.
        """
        fields: dict[str, Any] = {
            "uri": uri,
            "path": path,
            "content_type": content_type,
            "size": size,
            "filename": filename,
        }
        _fill(fields, value)
        _check(fields)
        self.uri = fields["uri"] or None
        self._path = _path_in(fields)
        self._from_caller = isinstance(value, File) and value._from_caller
        self._run_id = value._run_id if isinstance(value, File) else None
        if self.uri is None and self._path is None:
            raise ValueError(_NEITHER)
        self._explicit: dict[str, Any] = {key: fields[key] or None for key in ("content_type", "size", "filename")}
        self._found: dict[str, Any] = {}
        self.refresh_metadata()

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Self:
        """A file by its path (or URI), with its metadata."""
        return cls(os.fspath(path))

    # --- content

    @property
    def path(self) -> str:
        """The absolute local path. Downloads or decodes first, blocking; raises FileUnavailable if that fails."""
        if self._path is None:
            self._bring(None)
        assert self._path is not None  # noqa: S101  # _bring sets it or raises
        return self._path

    @path.setter
    def path(self, value: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(value)  # noqa: PTH100
        self.refresh_metadata()

    async def ensure(self) -> Self:
        """Fetches the content without blocking the event loop. Raises FileUnavailable."""
        if self._path is None:
            abort = threading.Event()
            try:
                await asyncio.to_thread(self._bring, abort)
            finally:
                abort.set()
        return self

    @property
    def is_local(self) -> bool:
        """Whether `path` returns without a download; the file need not exist."""
        return self._path is not None

    def exists(self) -> bool:
        """Whether the content exists; for a URL, whether it can be downloaded."""
        try:
            return Path(self.path).exists()
        except FileUnavailable:
            return False

    def _bring(self, abort: threading.Event | None) -> None:
        uri = self.uri or ""
        content_type = None
        if _is_data(uri):
            path = FileCache().data(uri)
        elif _is_url(uri):
            fetch = partial(download, uri, self._run_id) if self._from_caller else partial(FileCache().url, uri)
            path, content_type = fetch(abort)
        elif self._from_caller and uri.startswith(SERVER_FILE):
            path, content_type = download(uri, self._run_id, abort)
            self.uri = None  # from here on it is a local file, as an upload is
        else:
            scheme = uri.partition(":")[0]
            raise FileUnavailable(f"{scheme}: URIs are not supported: use an http(s) URL or a path")
        self._path = str(path)
        self.refresh_metadata()
        if content_type is not None:
            self._found["content_type"] = content_type

    # --- metadata

    @property
    def content_type(self) -> str | None:
        """The media type: as given, else from the name, the server or the content's first bytes."""
        return self._explicit["content_type"] or self._found.get("content_type")

    @content_type.setter
    def content_type(self, value: str | None) -> None:
        self._explicit["content_type"] = value

    @property
    def size(self) -> int | None:
        """Bytes."""
        given: int | None = self._explicit["size"]
        return self._found.get("size") if given is None else given

    @size.setter
    def size(self, value: int | None) -> None:
        self._explicit["size"] = value

    @property
    def filename(self) -> str | None:
        """The display name: as given, else the last segment of the path or URL."""
        return self._explicit["filename"] or self._found.get("filename")

    @filename.setter
    def filename(self, value: str | None) -> None:
        self._explicit["filename"] = value

    def refresh_metadata(self) -> None:
        """Detects the metadata again. Explicitly given values are kept."""
        self._found = self._look()

    def _look(self) -> dict[str, Any]:
        uri = self.uri or ""
        if _is_data(uri):
            head = _data_uri.header(uri) if "," in uri else None
            found = {"content_type": head and head.content_type, "filename": head and head.filename}
        elif _is_url(uri):
            name = url_name(uri)
            found = {"content_type": _mime.from_name(name), "filename": name or None}
        else:
            found = {"content_type": None, "filename": None}
        if self._path is None:
            return found
        local = Path(self._path)
        try:
            status = local.stat()
        except OSError:
            return found if self.uri else {}
        return {
            "content_type": found["content_type"] or _mime.from_name(local.name) or _content_type(local),
            "filename": found["filename"] or local.name,
            "size": status.st_size,
        }

    # --- values

    def to_dict(self) -> dict[str, Any]:
        """The known values, as a JSON object without nulls. Downloads nothing."""
        values = {
            "uri": self.uri,
            "path": self._path,
            "content_type": self.content_type,
            "size": self.size,
            "filename": self.filename,
        }
        return {key: value for key, value in values.items() if value is not None}

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Like pydantic models; the same as `to_dict`."""
        return self.to_dict()

    def __repr__(self) -> str:
        return f"File({', '.join(f'{key}={_short(value)}' for key, value in self.to_dict().items())})"

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, File) else NotImplemented

    __hash__: ClassVar[None]  # type: ignore[assignment]  # two equal files may become different

    # --- pydantic

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(_serialise, info_arg=True)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        properties = {key: {"type": "integer" if key == "size" else "string"} for key in _KEYS}
        return {
            "title": "File",
            "oneOf": [
                {"type": "string", "format": "file", "description": "A URL, a data: URI or a path"},
                {"type": "object", "properties": properties, "anyOf": [{"required": ["uri"]}, {"required": ["path"]}]},
            ],
        }

    @classmethod
    def _validate(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if value is None:
            raise ValueError(_NEITHER)
        rules = caller_rules()
        if rules is None:
            return cls(value)
        file = cls(_without_foreign_path(value, rules))
        file._from_caller, file._run_id = True, rules.run_id
        return file


def _fill(fields: dict[str, Any], value: Any) -> None:
    """Fills fields that are not set by keyword from the positional value."""
    if value is None:
        return
    if isinstance(value, File):
        given = {"uri": value.uri, "path": value._path, **value._explicit}
    elif isinstance(value, Mapping):
        given = {key: value.get(key) for key in _KEYS}
    elif isinstance(value, str):
        given = {"uri": value}
    elif isinstance(value, os.PathLike):
        given = {"path": value}
    else:
        raise ValueError(f"Invalid input for File: {value!r}")  # noqa: TRY004  # pydantic reports ValueErrors
    for key, item in given.items():
        if fields[key] is None:
            fields[key] = item


def _check(fields: dict[str, Any]) -> None:
    for key, expected in _TYPES.items():
        value = fields[key]
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool)):  # type: ignore[arg-type]
            raise ValueError(f"Invalid {key} for File: {value!r}")


def _path_in(fields: dict[str, Any]) -> str | None:
    """The local path given by the fields; links are not resolved."""
    return os.path.abspath(fields["path"]) if fields["path"] else _local_path(fields["uri"])  # noqa: PTH100


def _without_foreign_path(value: Any, rules: CallerRules) -> dict[str, Any]:
    """The fields of a client's value. A `path` next to a `uri` refers to the sender's machine and is dropped.

    A path that the supervisor may open becomes a SERVER_FILE: this process never opens it itself, since only the
    supervisor checks for links. Raises ValueError for any other path outside of the run's files.
    """
    fields: dict[str, Any] = dict.fromkeys(_KEYS)
    _fill(fields, value)
    _check(fields)
    if fields["uri"]:
        fields["path"] = None
    path = _path_in(fields)
    if path is None or rules.grants(path):
        return fields
    if not rules.may_ask_for(path):
        raise ValueError(_NOT_FROM_CALLERS)
    return {**fields, "path": None, "uri": SERVER_FILE + quote(path, errors="replace")}


def _local_path(uri: str | None) -> str | None:
    """The path of a URI without a remote scheme."""
    if not uri or _is_data(uri):
        return None
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return os.path.abspath(uri)  # noqa: PTH100
    if scheme[0].lower() == "file":
        return os.path.abspath(unquote(urlsplit(uri).path))  # noqa: PTH100
    return None


def _is_data(uri: str) -> bool:
    return uri[:5].lower() == "data:"


def _is_url(uri: str) -> bool:
    scheme = _SCHEME.match(uri)
    return scheme is not None and scheme[0].lower() in {"http", "https"}


def _content_type(path: Path) -> str | None:
    return _mime.from_content(path) if path.is_file() else None


def _serialise(file: File, info: SerializationInfo) -> dict[str, Any]:
    context = info.context or {}
    mark = context.get(MARK_LOCAL)
    if mark is None or (file.uri is not None and _SCHEME.match(file.uri) and not file.uri.startswith("file:")):
        return file.to_dict()
    if file.uri is not None and _is_data(file.uri):
        return {mark: {**File(path=file.path, filename=file.filename, content_type=file.content_type).to_dict()}}
    if file._path is not None and Path(file._path).is_file():
        return {mark: _without_uri(file)}
    context.get(NOTE_MISSING, []).append(file._path)
    return file.to_dict()


def _without_uri(file: File) -> dict[str, Any]:
    return {key: value for key, value in file.to_dict().items() if key != "uri"}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
