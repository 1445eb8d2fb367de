"""One environment: what it is made from, where it is, what is kept about it."""

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
    """What an environment is made from."""

    requirements: str = ""
    """The text of requirements.txt."""
    python: str = ""
    """E.g. `3.12`; empty: the server's."""
    folder: Path | None = None
    """The app's files, which requirements may name by relative paths."""
    content: str = ""
    """The version of those files."""

    @classmethod
    def of(cls, deployed: Deployed, variant: Variant) -> Self:
        """What a deployed version runs in."""
        version = deployed.version
        return cls(version.requirements, variant.python, deployed.content, version.version)

    @property
    def bare(self) -> bool:
        """Whether the app asks for nothing but the SDK."""
        return not requirement_lines(self.requirements) and self.python in ("", SERVER_PYTHON)


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment by its key, whether it has been built yet or not."""

    key: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return next((self.folder / "lib").glob("python3.*")) / "site-packages"

    @property
    def path(self) -> str:
        """The search path for programs in it."""
        return f"{self.python.parent}{os.pathsep}{os.defpath}"

    @property
    def record(self) -> Path:
        """The file that says how it was made. Its mtime is the last use; users lock it."""
        return self.folder / RECORD

    def hold(self) -> int | None:
        """A descriptor that keeps the environment from being removed while any copy of it is open. None: it is gone."""
        try:
            lock = os.open(self.record, os.O_RDONLY | os.O_CLOEXEC)  # the folder may be one that cannot be written
        except FileNotFoundError:
            return None
        if try_share_lock(lock):
            self.mark_used()
            return lock
        os.close(lock)
        return None

    def mark_used(self) -> None:
        """It is in use as of now, if it is there."""
        with contextlib.suppress(OSError):  # not there, or not ours to write: then not ours to clean either
            os.utime(self.record)


class EnvironmentRecord(msgspec.Struct):
    """The content of `environment.json`, inside the environment."""

    requirements: str
    python: str
    created: datetime
    seconds: float


def requirement_lines(text: str) -> list[str]:
    """What a requirements.txt asks for, without comments and empty lines."""
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def is_local(line: str) -> bool:
    """Whether the line's meaning depends on other files of the app."""
    return (
        line.startswith(("-r", "-c", "-e", "--req", "--con", "--edit", "--find", ".", "/"))
        or "file:" in line
        or "./" in line
    )
