"""References to apps: `[namespace/]name[@version][:function]`."""

import re
from dataclasses import dataclass

from mien.errors import RequestError

LATEST = "latest"
SHORT_ID = 10  # number of displayed hex digits of a version's id
_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
_NAMES = re.compile(_NAME)
_REFERENCE = re.compile(
    rf"(?:(?P<namespace>{_NAME})/)?(?P<name>{_NAME})(?:@(?P<version>[0-9a-f]{{4,64}}|latest))?(?::(?P<function>[A-Za-z_]\w{{0,63}}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class AppRef:
    """A parsed reference. Without a version it means the latest one, without a function the app's default."""

    namespace: str
    name: str
    version: str | None = None
    """A prefix of a version's id, at least four hex digits."""
    function: str | None = None

    @property
    def app(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return self.app + version + (f":{self.function}" if self.function else "")


def parse_ref(text: str, default_namespace: str) -> AppRef:
    """Parse a reference; a bare name is in `default_namespace`. Raises RequestError."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise RequestError(
            f"{text[:100]!r} is not an app: expected namespace/name[@version][:function], in lower case; a version is "
            "`latest` or at least 4 hex digits of an id"
        )
    version = match["version"]
    return AppRef(
        match["namespace"] or default_namespace,
        match["name"],
        None if version == LATEST else version,
        match["function"],
    )


def is_name(text: str) -> bool:
    """Whether it is a valid name for an app or a namespace."""
    return _NAMES.fullmatch(text) is not None
