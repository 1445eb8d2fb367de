"""One environment: its specification, its location, its record."""

import contextlib
import os
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from mien.apps.manifest import Variant
from mien.apps.record import Deployed
from mien.locks import try_share_lock

RECORD = "environment.json"
SERVER_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """Everything that determines an environment."""

    requirements: str = ""
    """The text of requirements.txt."""
    python: str = ""
    """E.g. `3.12`; empty: the server's."""
    folder: Path | None = None
    """The app's files, to which requirements may refer by relative path."""
    content: str = ""
    """The version of the app's files."""

    @classmethod
    def of(cls, deployed: Deployed, variant: Variant) -> Self:
        """The environment of a deployed version."""
        version = deployed.version
        return cls(version.requirements, variant.python, deployed.content, version.version)

    @property
    def bare(self) -> bool:
        """Whether the app needs nothing but the SDK."""
        return not requirement_lines(self.requirements) and self.python in ("", SERVER_PYTHON)


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment by key; it may not have been built yet."""

    key: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages directory."""
        return next((self.folder / "lib").glob("python3.*")) / "site-packages"

    @property
    def path(self) -> str:
        """The value of PATH for processes in it."""
        return f"{self.python.parent}{os.pathsep}{os.defpath}"

    @property
    def record(self) -> Path:
        """The file that describes how it was built. Its mtime is the time of the last use; users hold a lock on it."""
        return self.folder / RECORD

    def hold(self) -> int | None:
        """A descriptor that prevents removal while any copy of it is open. None: it was removed."""
        try:
            lock = os.open(self.record, os.O_RDONLY | os.O_CLOEXEC)  # read-only: the directory may not be writable
        except FileNotFoundError:
            return None
        if try_share_lock(lock):
            self.mark_used()
            return lock
        os.close(lock)
        return None

    def mark_used(self) -> None:
        """Set the time of the last use to now, if it exists."""
        with contextlib.suppress(OSError):  # missing, or not writable: then we cannot remove it either
            os.utime(self.record)


class EnvironmentRecord(msgspec.Struct):
    """The content of `environment.json`, inside the environment."""

    requirements: str
    python: str
    created: datetime
    seconds: float


def requirement_lines(text: str) -> list[str]:
    """The lines of a requirements.txt without comments and empty lines."""
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def is_local(line: str) -> bool:
    """Whether the line refers to other files of the app."""
    return (
        line.startswith(("-r", "-c", "-e", "--req", "--con", "--edit", "--find", ".", "/"))
        or "file:" in line
        or "./" in line
    )
