"""The records of deployed versions."""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from mien.apps.manifest import DEFAULT_VARIANT, AppManifest
from mien.apps.reference import SHORT_ID


class FunctionSchema(msgspec.Struct, frozen=True):
    """The JSON schemas of one function of an app."""

    description: str = ""
    input_schema: dict[str, Any] = {}
    output_schema: dict[str, Any] = {}


class AppVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of an app."""

    namespace: str
    name: str
    version: str
    """SHA-256, in hex, of the app's files."""
    created: datetime
    """When it was first deployed here."""
    manifest: AppManifest
    functions: dict[str, FunctionSchema]
    default_function: str = "run"
    concurrency: int = 1
    """Maximum number of concurrent runs in one worker."""
    setup_schema: dict[str, Any] | None = None
    requirements: str = ""
    packages: tuple[str, ...] = ()
    """System packages that the app requires; they are not installed."""
    files: int = 0
    size: int = 0
    """Total size of its files in bytes."""

    @property
    def app(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def short_id(self) -> str:
        return self.version[:SHORT_ID]

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([DEFAULT_VARIANT, *self.manifest.variants]))


class Deployed(msgspec.Struct, frozen=True):
    """A version and the location of its files."""

    version: AppVersion
    content: Path
    chosen: float = 0.0
    """When it was last made the latest version, by a deployment or a rollback; seconds since 1970."""


class Index(msgspec.Struct, frozen=True):
    """The versions of an app, and the one to which a reference without a version resolves."""

    versions: tuple[str, ...] = ()
    """In the order of their first deployment."""
    current: tuple[str, ...] = ()
    """The history of latest versions; its last entry is the current one."""
    chosen: dict[str, float] = {}
    """When each version was last made the latest; seconds since 1970."""

    @property
    def latest(self) -> str | None:
        return self.current[-1] if self.current else None
