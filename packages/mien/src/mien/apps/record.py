"""What is stored about each deployed version."""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from mien.apps.manifest import DEFAULT_VARIANT, AppManifest
from mien.apps.reference import SHORT_ID


class FunctionSchema(msgspec.Struct, frozen=True):
    """One function of an app, as JSON schemas."""

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
    """Runs at the same time in one worker."""
    setup_schema: dict[str, Any] | None = None
    requirements: str = ""
    packages: tuple[str, ...] = ()
    """System packages that the app asks for; they are not installed."""
    files: int = 0
    size: int = 0
    """Bytes of all files."""

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
    """A version and where its files are."""

    version: AppVersion
    content: Path
    chosen: float = 0.0
    """When it was last made the latest one, by a deployment or a rollback; seconds since 1970."""


class Index(msgspec.Struct, frozen=True):
    """The versions of an app, and which of them a reference without a version resolves to."""

    versions: tuple[str, ...] = ()
    """In the order of their first deployment."""
    current: tuple[str, ...] = ()
    """The history of the latest version; its last entry is the latest now."""
    chosen: dict[str, float] = {}
    """When each version was last made the latest; seconds since 1970."""

    @property
    def latest(self) -> str | None:
        return self.current[-1] if self.current else None
