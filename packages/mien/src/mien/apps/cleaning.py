"""Removes environments that no deployed version needs and that have not been used for a long time."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mien.apps.environment import RECORD, Environment, EnvironmentRecord, EnvironmentSpec
from mien.apps.environments import STAGING, Environments
from mien.apps.manifest import Variant
from mien.apps.registry import AppRegistry
from mien.locks import open_lock, try_lock

YOUNGEST = 3600.0
"""Minimum age, in seconds since the last use, for removal: an app may be about to be deployed with it."""


@dataclass(frozen=True, slots=True)
class Unused:
    """An environment that can be removed."""

    key: str
    requirements: str
    used: float
    """When it was last used, in seconds since 1970."""
    size: int
    """Total size of its files in bytes."""


def clean(
    environments: Environments, registry: AppRegistry, *, seconds: float, now: float, dry: bool = False
) -> list[Unused]:
    """Remove, and return, environments that were not used for `seconds`; with `dry`, only return them.

    Environments of deployed versions are marked as used now, so that servers with other apps that share the directory
    do not remove them. Raises MienError, before removing anything, if the deployed versions cannot be read.
    """
    wanted = _wanted(environments, registry)
    environments.mark_used(wanted)
    before = now - max(seconds, YOUNGEST)
    gone = []
    for record in sorted(environments.root.glob(f"*/{RECORD}")):
        environment = Environment(record.parent.name, record.parent)
        if environment.key in wanted or environment.key.startswith(STAGING) or _used(environment) >= before:
            continue
        with _locked_alone(environment) as alone:
            if alone and _used(environment) < before:  # it may have been used since the first check
                gone.append(_described(environment))
                if not dry:
                    _remove(environment)
    if not dry:
        _remove_leftovers(environments.root)
    return gone


def _wanted(environments: Environments, registry: AppRegistry) -> frozenset[str]:
    """Keys of the environments of all versions of all apps, in all variants."""
    keys = set()
    for deployed in registry.everything():
        manifest = deployed.version.manifest
        variants = [manifest.variant(name) or Variant() for name in deployed.version.variants]
        keys |= {environments.key(EnvironmentSpec.of(deployed, variant)) for variant in variants}
    return frozenset(keys)


@contextlib.contextmanager
def _locked_alone(environment: Environment) -> Iterator[bool]:
    """Lock the environment; yields whether it is neither being built nor used by a worker of any server."""
    locks = [_build_lock(environment.folder.parent, environment.key)]
    try:
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            locks.append(os.open(environment.record, os.O_RDWR | os.O_CLOEXEC))
        yield len(locks) == 2 and all(try_lock(lock) for lock in locks)
    finally:
        for lock in locks:
            os.close(lock)


def _build_lock(root: Path, key: str) -> int:
    return open_lock(root / f"{key}.lock")


def _used(environment: Environment) -> float:
    try:
        return environment.record.stat().st_mtime
    except FileNotFoundError:
        return float("inf")  # another process removed it


def _described(environment: Environment) -> Unused:
    try:
        requirements = msgspec.json.decode(environment.record.read_bytes(), type=EnvironmentRecord).requirements
    except msgspec.MsgspecError:
        requirements = ""
    size = sum(path.lstat().st_size for path in environment.folder.rglob("*"))
    return Unused(environment.key, requirements, _used(environment), size)


def _remove(environment: Environment) -> None:
    """Rename atomically, then delete. If this process is killed in between, `_remove_leftovers` cleans up."""
    trash = Path(tempfile.mkdtemp(prefix=f"{STAGING}{environment.key}-", dir=environment.folder.parent))
    environment.folder.rename(trash / "gone")
    shutil.rmtree(trash, ignore_errors=True)


def _remove_leftovers(root: Path) -> None:
    """Remove what interrupted builds and removals left behind."""
    for folder in root.glob(f"{STAGING}*"):
        lock = _build_lock(root, folder.name.removeprefix(STAGING).partition("-")[0])
        try:
            if try_lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
