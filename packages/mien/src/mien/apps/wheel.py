"""The kernel and the SDK as a wheel, built from the `infsh` that is installed with this server, editable or not."""

import base64
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from mien.atomic import replace_file

PACKAGES = ("infsh", "inferencesh", "lumen_client")
EPOCH = (2020, 1, 1, 0, 0, 0)  # a fixed timestamp makes wheels reproducible


@cache
def kernel_id() -> str:
    """A hash of the contents; part of the key of environments."""
    digest = hashlib.sha256("\n".join(distribution("infsh").requires or ()).encode())
    for name, path in _files():
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def kernel_wheel(folder: Path) -> Path:
    """The wheel in `folder`, built unless it exists. Safe for concurrent processes."""
    version = f"{distribution('infsh').version}+k{kernel_id()}"
    wheel = folder / f"infsh-{version}-py3-none-any.whl"
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            _fill(archive, version)
        replace_file(wheel, content.getvalue())
    return wheel


def _fill(archive: zipfile.ZipFile, version: str) -> None:
    info = f"infsh-{version}.dist-info"
    record = []

    def add(name: str, content: bytes) -> None:
        archive.writestr(zipfile.ZipInfo(name, EPOCH), content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(content)}")

    for name, path in _files():
        add(name, path.read_bytes())
    add(f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: mien\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    add(f"{info}/METADATA", _metadata(version).encode())
    record.append(f"{info}/RECORD,,")
    archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", EPOCH), "\n".join(record) + "\n")


def _metadata(version: str) -> str:
    installed = distribution("infsh")
    lines = ["Metadata-Version: 2.1", "Name: infsh", f"Version: {version}"]
    lines += [f"Requires-Python: {installed.metadata['Requires-Python'] or '>=3.11'}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in installed.requires or ()]
    return "\n".join(lines) + "\n"


@cache
def _files() -> tuple[tuple[str, Path], ...]:
    return tuple(sorted(_walk()))


def _walk() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(place)
            for path in root.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield f"{package}/{path.relative_to(root).as_posix()}", path
