"""What is known about a file, besides its bytes."""

import re

import msgspec

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_NAME = 200
SCHEME = "mien-file://"
"""How tasks name files: `mien-file://ID/NAME`, which stays true whatever the server's address."""
_ID = re.compile(SCHEME + "([a-z0-9]{26})/")


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Times in seconds since 1970; `size` and `sha256` are None until its content is there."""

    id: str
    """26 characters, 128 random bits: cannot be guessed."""
    created_at: float
    updated_at: float
    owner: str
    """Id of the API key that made it; "" while none are configured."""
    filename: str
    """For people and for `Content-Disposition`; never part of a path on this machine."""
    path: str | None
    """What the client called the path, kept for it and used for nothing."""
    content_type: str
    declared_type: str | None
    declared_size: int | None
    size: int | None
    sha256: str | None
    public: bool
    """Readable by whoever knows the URL, without signature or key."""
    task_id: str | None
    """The task that the file is an output of."""
    expires_at: float | None
    """Removed after this time; None: kept until it is deleted."""

    @property
    def ready(self) -> bool:
        return self.sha256 is not None


class FilePage(msgspec.Struct, frozen=True):
    """Records, newest first; `cursor` gets the next page, None: this was the last."""

    files: tuple[FileRecord, ...]
    cursor: str | None


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says about a file that it is going to send."""

    filename: str | None = None
    content_type: str | None = None
    size: int | None = None
    """Bytes, if known: an upload of another length is refused as cut off."""
    path: str | None = None
    public: bool = False
    owner: str = ""
    task_id: str | None = None
    keep_seconds: float | None = None
    """Removed after this time, where the store does not remove it earlier; None: as the store does."""


def safe_name(name: str | None) -> str:
    """The last part of what may be a path of any system, printable and not too long; `file` when nothing is left."""
    last = re.split(r"[/\\]", name or "")[-1]
    last = _UNPRINTABLE.sub("", last).strip().strip(".").strip()
    if len(last) > LONGEST_NAME:
        stem, dot, suffix = last.rpartition(".")
        keep = dot + suffix if stem and len(suffix) <= 16 else ""
        last = last[: LONGEST_NAME - len(keep)] + keep
    return last or "file"


def files_named(json: str | None) -> frozenset[str]:
    """Ids of all files that JSON text names: a few too many where a text only quotes such a name, never too few."""
    return frozenset(_ID.findall(json)) if json and SCHEME in json else frozenset()
