"""Copies the SDK's dependencies from the server's own environment: fast and offline, for apps without requirements."""

import contextlib
import importlib.metadata
import re
import shutil
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from mien.apps.wheel import PACKAGES


@cache
def sdk_distributions() -> tuple[Distribution, ...]:
    """The dependencies of `infsh` that are installed here, transitively, without `infsh` itself."""
    found: dict[str, Distribution] = {}
    look = list(_needs(importlib.metadata.distribution("infsh")))
    while look:
        name = look.pop()
        if name in found or name in PACKAGES:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a dependency for another platform
        look += _needs(found[name])
    return tuple(found[name] for name in sorted(found))


def _needs(distribution: Distribution) -> list[str]:
    needed = []
    for requirement in distribution.requires or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is not None and "extra ==" not in requirement:
            needed.append(re.sub(r"[-_.]+", "-", name.group()).lower())
    return needed


def copyable(distribution: Distribution) -> bool:
    """Whether its files can be copied; not if it is installed in editable mode."""
    return bool(distribution.files) and distribution.read_text("direct_url.json") is None


def copy_distributions(distributions: tuple[Distribution, ...], target: Path) -> None:
    """Copy their files, except scripts, to the site-packages directory `target`."""
    for distribution in distributions:
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue  # scripts, and bytecode that Python regenerates
            destination = target / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # deleted manually, but still in RECORD
                shutil.copyfile(str(file.locate()), destination)
