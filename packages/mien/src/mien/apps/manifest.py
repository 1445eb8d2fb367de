"""inf.yml: an app's description and requirements."""

import re
from pathlib import Path
from typing import Any

import msgspec

from infsh import _manifest
from infsh._errors import ManifestInvalid
from mien.apps.reference import is_name
from mien.errors import AppInvalid

MAX_BYTES = 256 * 1024
DEFAULT_VARIANT = "default"
LEAST_PYTHON = (3, 11)


class Resources(msgspec.Struct, frozen=True):
    """The resources of one worker of the app."""

    gpus: int = 0
    vram: int = 0
    """Bytes of memory on each GPU."""
    ram: int = 0
    """Bytes; 0: the server's default."""


class Variant(msgspec.Struct, frozen=True):
    """A named profile of resources and environment variables."""

    name: str = ""
    resources: Resources = Resources()
    env: dict[str, str] = {}
    python: str = ""


class Secret(msgspec.Struct, frozen=True):
    """An environment variable that the server's operator supplies."""

    key: str
    description: str = ""
    optional: bool = False


class AppManifest(msgspec.Struct, frozen=True):
    """A validated inf.yml. Unknown keys are ignored."""

    namespace: str = ""
    name: str = ""
    description: str = ""
    category: str = ""
    python: str = ""
    """E.g. `3.12`; empty: the server's."""
    resources: Resources = Resources()
    env: dict[str, str] = {}
    secrets: tuple[Secret, ...] = ()
    variants: dict[str, Variant] = {}
    service: str = ""
    """The name by which /v1/infer reaches the app; empty: it does not."""
    grace: float | None = None
    """Grace period, in seconds, of a cancelled run before its worker is killed; None: the server's default."""

    def variant(self, key: str) -> Variant | None:
        """The variant of that name, with the app's values for what it does not set; None if there is none.

        Every app has the variant `default`.
        """
        base = Variant(resources=self.resources, env=self.env, python=self.python)
        found = self.variants.get(key)
        if found is None:
            return base if key == DEFAULT_VARIANT else None
        resources = base.resources if found.resources == Resources() else found.resources
        return Variant(found.name, resources, {**base.env, **found.env}, found.python or base.python)


def read_manifest(folder: Path) -> AppManifest:
    """The folder's inf.yml, or the defaults if it has none. Raises AppInvalid."""
    path = folder / _manifest.FILE_NAME
    if not path.exists():
        return AppManifest()
    if path.stat().st_size > MAX_BYTES:
        raise AppInvalid(f"{path.name} is larger than {MAX_BYTES} bytes")
    try:
        return _manifest_of(_manifest.read_manifest(folder))
    except ManifestInvalid as error:
        raise AppInvalid(str(error)) from error


def _manifest_of(given: _manifest.Manifest) -> AppManifest:
    namespace, name = (given.namespace or "").lower(), given.name.lower()
    for text in (namespace, name):
        if text and not is_name(text):
            raise AppInvalid(
                f"inf.yml: {text!r} is not a valid name; use a-z, 0-9, `.`, `_`, `-`, a letter or digit at both ends"
            )
    extra = given.model_extra or {}
    return AppManifest(
        namespace=namespace,
        name=name,
        description=given.description,
        category=given.category,
        python=_python(given.kernel),
        resources=_resources(given.resources),
        env=dict(given.env),
        secrets=_secrets(extra.get("secrets") or []),
        variants={key: _variant(variant) for key, variant in given.variants.items()},
        service=given.service or "",
        grace=given.grace,
    )


def _variant(given: _manifest.Variant) -> Variant:
    return Variant(
        given.name or "",
        _resources(given.resources) if given.resources else Resources(),
        dict(given.env),
        _python(given.python or ""),
    )


def _resources(given: _manifest.Resources) -> Resources:
    gpus = 0 if given.gpu.type.lower() == "none" else given.gpu.count
    return Resources(gpus, given.gpu.vram, given.ram)


def _secrets(given: Any) -> tuple[Secret, ...]:
    if not isinstance(given, list):
        raise AppInvalid("inf.yml: `secrets` must be a list")
    return tuple(map(_secret, given))


def _secret(given: Any) -> Secret:
    fields = {"key": given} if isinstance(given, str) else given
    if not isinstance(fields, dict) or not isinstance(fields.get("key"), str):
        raise AppInvalid("inf.yml: each of `secrets` must be a name, or an object with its name as `key`")
    description = fields.get("description")
    return Secret(fields["key"], description if isinstance(description, str) else "", bool(fields.get("optional")))


def _python(kernel: str) -> str:
    match = re.fullmatch(r"(?:python-?)?(\d+)\.(\d+)(?:\.\d+)?", kernel.strip())
    if match is None:
        if kernel:
            raise AppInvalid(f"inf.yml: the kernel {kernel!r} is not supported; use python-3.11 or newer")
        return ""
    wanted = (int(match[1]), int(match[2]))
    return "" if wanted < LEAST_PYTHON else f"{wanted[0]}.{wanted[1]}"  # apps for older versions run on the server's
