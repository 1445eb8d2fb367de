"""Removal of environments that no deployed version needs and that have not been used for a long time."""

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
"""Seconds for which an environment is spared whatever is asked for: an app may be about to be deployed with it."""


@dataclass(frozen=True, slots=True)
class Unused:
    """An environment that can go."""

    key: str
    requirements: str
    used: float
    """When it was last used, seconds since 1970."""
    size: int
    """Bytes of its files."""


def clean(
    environments: Environments, registry: AppRegistry, *, seconds: float, now: float, dry: bool = False
) -> list[Unused]:
    """Remove what was not used for `seconds`, and return it; with `dry`, only return it.

    What deployed versions ask for counts as used now, so that servers with other apps on the same folder spare it.
    Raises MienError, having removed nothing, when the deployed versions cannot be read.
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
            if alone and _used(environment) < before:  # not used since the first look
                gone.append(_described(environment))
                if not dry:
                    _remove(environment)
    if not dry:
        _remove_leftovers(environments.root)
    return gone


def _wanted(environments: Environments, registry: AppRegistry) -> frozenset[str]:
    """The environments of all versions of all apps, in all their variants."""
    keys = set()
    for deployed in registry.everything():
        manifest = deployed.version.manifest
        variants = [manifest.variant(name) or Variant() for name in deployed.version.variants]
        keys |= {environments.key(EnvironmentSpec.of(deployed, variant)) for variant in variants}
    return frozenset(keys)


@contextlib.contextmanager
def _locked_alone(environment: Environment) -> Iterator[bool]:
    """Whether no process builds it and no worker, of any server, runs in it; that stays so inside the block."""
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
    """Renamed atomically, then deleted; what a kill leaves of it is cleaned like the rest of a killed build."""
    trash = Path(tempfile.mkdtemp(prefix=f"{STAGING}{environment.key}-", dir=environment.folder.parent))
    environment.folder.rename(trash / "gone")
    shutil.rmtree(trash, ignore_errors=True)


def _remove_leftovers(root: Path) -> None:
    """What killed builds, and a killed cleaning, left behind."""
    for folder in root.glob(f"{STAGING}*"):
        lock = _build_lock(root, folder.name.removeprefix(STAGING).partition("-")[0])
        try:
            if try_lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
