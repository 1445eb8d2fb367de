"""One file out of a zip or tar archive, written where we say and nowhere else."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mien.errors import ModelCorrupt

MAX_MEMBER_BYTES = 4 * 1024**3


def extract_member(archive: Path, member: str, target: Path) -> Path:
    """Writes the file `member` of `archive` to `target` and returns `target`.

    The archive's own paths are only compared, never used as paths. Raises ModelCorrupt when the archive is
    damaged, or the member is missing, no plain file, or claims more than 4 GiB.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _from_zip(archive, member, target)
        else:
            _from_tar(archive, member, target)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ModelCorrupt(f"the archive {archive.name} is damaged: {error}") from error
    return target


def extract_tree(archive: Path, target: Path) -> Path:
    """Unpacks all of a zip `archive` under `target`; refuses names that lead out of it with ModelCorrupt."""
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not is_inside(info.filename):
                raise ModelCorrupt(f"the archive {archive.name} holds the unsafe name {info.filename!r}")
            path = Path(opened.extract(info, target))
            mode = info.external_attr >> 16
            if mode & 0o111 and path.is_file():
                path.chmod(0o755)
    return target


def is_inside(name: str) -> bool:
    """Whether an archive's `name` stays under the folder that it is unpacked in."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def _from_zip(archive: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        try:
            info = opened.getinfo(member)
        except KeyError:
            raise _missing(archive, member) from None
        _check_size(archive, member, info.file_size)
        with opened.open(info) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def _from_tar(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as opened:
        try:
            info = opened.getmember(member)
        except KeyError:
            raise _missing(archive, member) from None
        if not info.isreg():
            raise ModelCorrupt(f"{member} in {archive.name} is a link or a device, not a file")
        _check_size(archive, member, info.size)
        source = opened.extractfile(info)
        if source is None:
            raise _missing(archive, member)
        with source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def _check_size(archive: Path, member: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise ModelCorrupt(f"{member} in {archive.name} claims {size} bytes; more than {MAX_MEMBER_BYTES} is refused")


def _missing(archive: Path, member: str) -> ModelCorrupt:
    return ModelCorrupt(f"the archive {archive.name} holds no file {member!r}; correct `path` in the manifest")
