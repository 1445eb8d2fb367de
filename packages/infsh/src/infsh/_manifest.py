"""`inf.yml`: what an app says about itself."""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from infsh._errors import ManifestInvalid

FILE_NAME = "inf.yml"

MAX_DEPTH = 20
MAX_ALIASES = 20
_shown = reprlib.Repr()
_shown.maxlevel, _shown.maxstring, _shown.maxother = 2, 200, 200
_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def _amount(value: Any) -> Any:
    """Bytes. A bare number below 1000 means gigabytes, below 10⁹ megabytes; strings may have a unit."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return int(value * (10**9 if value < 1000 else 10**6 if value < 10**9 else 1))
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("give bytes, or a number with a unit such as 24GB or 512MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()]) if match[2] else _amount(float(match[1]))


def _text(value: Any) -> Any:
    """YAML parses `1.0` and `yes` as a number and a boolean; as the value of a variable they are strings."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def _mapping(value: Any) -> Any:
    return {} if value is None else value


Bytes = Annotated[int, BeforeValidator(_amount), Field(ge=0)]
Text = Annotated[str, BeforeValidator(_text)]
Environment = Annotated[dict[str, Text], BeforeValidator(_mapping)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Gpu(_Part):
    """GPUs that the app requires."""

    count: int = Field(default=0, ge=0)
    vram: Bytes = 0
    """Bytes per GPU."""
    type: Annotated[str, BeforeValidator(_text)] = "any"


class Resources(_Part):
    """Resources that a worker of the app requires."""

    gpu: Annotated[Gpu, BeforeValidator(_mapping)] = Gpu()
    ram: Bytes = 0
    """Bytes."""


class Variant(_Part):
    """A profile of resources and environment, selected by the task's `variant`."""

    name: Text | None = None
    order: int = 0
    resources: Annotated[Resources, BeforeValidator(_mapping)] | None = None
    env: Environment = {}
    python: Text | None = None


class Manifest(_Part):
    """The content of `inf.yml`. Other keys are kept in `model_extra`."""

    name: str = Field(pattern=_NAME)
    namespace: str | None = Field(default=None, pattern=_NAME)
    description: Text = ""
    version: Text | None = None
    category: Text = "other"
    kernel: Text = ""
    """`python-3.11` and so on; empty: the server's."""
    resources: Annotated[Resources, BeforeValidator(_mapping)] = Resources()
    env: Environment = {}
    variants: Annotated[dict[str, Variant], BeforeValidator(_mapping)] = {}
    default_function: str = "run"
    service: str | None = Field(default=None, pattern=_NAME)
    """The service name under which `/v1/infer` exposes the app; none: not exposed."""
    concurrency: int | None = Field(default=None, ge=1, le=1024)
    """Concurrent runs per worker; none: the class's value, 1 by default."""
    grace: float | None = Field(default=None, ge=0, le=3600)
    """Seconds that a cancelled run has to finish before its worker is killed; none: the server's default."""


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of an app's folder. Raises ManifestInvalid, which names the key."""
    path = folder / FILE_NAME
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestInvalid(f"{folder} has no {FILE_NAME}: an app needs at least `name: my-app` in it") from error
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, a date or number that is none
        raise ManifestInvalid(f"{FILE_NAME} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ManifestInvalid(f"{FILE_NAME} must contain keys and values, such as `name: my-app`")
    return parse_manifest(content)


def _parsed(text: str) -> Any:
    """The value of a YAML document that is nested, and refers to itself, no more than a manifest needs to.

    Without these limits a few lines of aliases become gigabytes. Raises ValueError, yaml.YAMLError.
    """
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        if aliases > MAX_ALIASES:
            raise ValueError(f"it has more than {MAX_ALIASES} aliases")
    return yaml.safe_load(text)


def parse_manifest(content: dict[Any, Any]) -> Manifest:
    """Validates these keys as a manifest. Raises ManifestInvalid, which names the key."""
    try:
        return Manifest.model_validate({str(key): value for key, value in content.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = (
            "is missing"
            if first["type"] == "missing"
            else f"cannot be {_shown.repr(first['input'])}: {_reason(first['msg'])}"
        )
        raise ManifestInvalid(f"{FILE_NAME}: `{key}` {said}") from error


def _reason(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
