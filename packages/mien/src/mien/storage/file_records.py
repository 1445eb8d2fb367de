"""File records: everything about a file except its content."""

import re

import msgspec

from mien.keys import DEFAULT_OWNER

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_NAME = 200
SCHEME = "mien-file://"
"""How tasks refer to files: `mien-file://ID/NAME`, independent of the server's address."""
_ID = re.compile(SCHEME + "([a-z0-9]{26})/")


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Times are in seconds since 1970; `size` and `sha256` are None until the content is uploaded."""

    id: str
    """26 characters with 130 random bits: cannot be guessed."""
    created_at: float
    updated_at: float
    owner: str
    """Whose file it is: see `mien.keys.Key.owner`."""
    filename: str
    """For display and `Content-Disposition`; never part of a path on this machine."""
    path: str | None
    """The path on the client's side, stored for the client only."""
    content_type: str
    declared_type: str | None
    declared_size: int | None
    size: int | None
    sha256: str | None
    public: bool
    """Readable by anyone who knows the URL, without signature or key."""
    task_id: str | None
    """The task that produced the file."""
    expires_at: float | None
    """When it is removed; None: kept until deleted."""

    @property
    def ready(self) -> bool:
        return self.sha256 is not None


class FilePage(msgspec.Struct, frozen=True):
    """Records, newest first. `cursor` selects the next page; None: this is the last one."""

    files: tuple[FileRecord, ...]
    cursor: str | None


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a client declares about a file before uploading it."""

    filename: str | None = None
    content_type: str | None = None
    size: int | None = None
    """Size in bytes, if known; an upload of another size is rejected."""
    path: str | None = None
    public: bool = False
    owner: str = DEFAULT_OWNER
    task_id: str | None = None
    keep_seconds: float | None = None
    """Retention period, unless the store's own is shorter; None: the store's."""


def safe_name(name: str | None) -> str:
    """The last component of a path (of any operating system), printable and of limited length; `file` if empty."""
    last = re.split(r"[/\\]", name or "")[-1]
    last = _UNPRINTABLE.sub("", last).strip().strip(".").strip()
    if len(last) > LONGEST_NAME:
        stem, dot, suffix = last.rpartition(".")
        keep = dot + suffix if stem and len(suffix) <= 16 else ""
        last = last[: LONGEST_NAME - len(keep)] + keep
    return last or "file"


def files_named(json: str | None) -> frozenset[str]:
    """Ids of all files that JSON text refers to. May include files that a string merely quotes, but misses none."""
    return frozenset(_ID.findall(json)) if json and SCHEME in json else frozenset()
