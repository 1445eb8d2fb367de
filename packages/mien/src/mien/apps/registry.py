"""The deployed versions of all apps, in `<data_dir>/apps/<namespace>/<name>/`.

`index.json` is replaced atomically, `versions/<id>/` is complete or absent, and writers hold a lock per app, so that
two servers, or a server and the CLI, can use the same directory. Readers need no lock.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mien.apps.record import AppVersion, Deployed, Index
from mien.apps.reference import AppRef
from mien.atomic import replace_file, sync
from mien.errors import AppUnknown, InternalError, RequestError
from mien.locks import locked
from mien.private import private_folder

INDEX = "index.json"
RECORD = "record.json"
CONTENT = "content"
STAGING = "staging-"
HISTORY = 100


class AppRegistry:
    """All deployed apps."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._records: dict[Path, AppVersion] = {}

    def publish(self, staged: Path, version: AppVersion) -> Deployed:
        """Publish `staged` (from `staging`; `content` in it contains the files) as that version and make it the latest.

        If the version exists already, it just becomes the latest again, and `chosen` is updated.
        """
        folder = self._folder(version.namespace, version.name)
        with self._locked(folder):
            index = _read_index(folder)
            target = folder / "versions" / version.version
            if version.version not in index.versions or not (target / RECORD).exists():
                (staged / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(version)))
                sync(staged / RECORD)
                target.parent.mkdir(exist_ok=True)
                if target.exists():
                    shutil.rmtree(target)
                staged.rename(target)
                sync(target.parent)
            _write_index(folder, _with_latest(index, version.version))
            return self._read(target, _read_index(folder))

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A new directory on the registry's file system; removed afterwards unless it was published."""
        private_folder(self._root.parent)
        private_folder(self._root)
        folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=self._root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def resolve(self, ref: AppRef) -> Deployed:
        """The version to which `ref` refers; without one, the latest. Raises AppUnknown, also for a function."""
        folder = self._folder(ref.namespace, ref.name)
        index = _read_index(folder)
        if not index.versions or index.latest is None:
            raise AppUnknown(f"no app {ref.app} is deployed here; `mien apps list` shows all apps")
        deployed = self._read(folder / "versions" / _version_of(index, ref), index)
        if ref.function is not None and ref.function not in deployed.version.functions:
            known = ", ".join(deployed.version.functions)
            raise AppUnknown(f"{ref.app} has no function {ref.function}; it has {known}")
        return deployed

    def all(self) -> list[Deployed]:
        """The latest version of every app, by name."""
        found = []
        for path in sorted(self._root.glob(f"*/*/{INDEX}")):
            ref = AppRef(path.parent.parent.name, path.parent.name)
            with contextlib.suppress(AppUnknown):  # removed meanwhile
                found.append(self.resolve(ref))
        return found

    def everything(self) -> list[Deployed]:
        """Every version of every app."""
        found = []
        for path in sorted(self._root.glob(f"*/*/{INDEX}")):
            index = _read_index(path.parent)
            for version in index.versions:
                with contextlib.suppress(AppUnknown):  # removed meanwhile
                    found.append(self._read(path.parent / "versions" / version, index))
        return found

    def versions(self, ref: AppRef) -> list[Deployed]:
        """Every version of the app, oldest first. Raises AppUnknown."""
        self.resolve(AppRef(ref.namespace, ref.name))
        folder = self._folder(ref.namespace, ref.name)
        found = []
        index = _read_index(folder)
        for version in index.versions:
            with contextlib.suppress(AppUnknown):
                found.append(self._read(folder / "versions" / version, index))
        return found

    def rollback(self, ref: AppRef) -> Deployed:
        """Make the version to which `ref` refers the latest; without one, the previous latest version.

        Raises AppUnknown; RequestError if there is no previous one.
        """
        folder = self._existing(ref)
        with self._locked(folder):
            index = _read_index(folder)
            if ref.version is not None:
                index = _with_latest(index, _version_of(index, ref))
            else:
                if len(index.current) < 2:
                    raise RequestError(f"{ref.app} has no earlier version to roll back to")
                index = _with_latest(msgspec.structs.replace(index, current=index.current[:-1]), index.current[-2])
            _write_index(folder, index)
        return self.resolve(AppRef(ref.namespace, ref.name))

    def remove(self, ref: AppRef) -> int:
        """Remove one version, or all versions; returns the number removed. Running workers are not affected."""
        folder = self._existing(ref)
        with self._locked(folder):
            index = _read_index(folder)
            gone = index.versions if ref.version is None else (_version_of(index, ref),)
            kept = tuple(version for version in index.versions if version not in gone)
            current = tuple(version for version in index.current if version in kept) or kept[-1:]
            chosen = {version: at for version, at in index.chosen.items() if version in kept}
            _write_index(folder, Index(kept, _without_repeats(current), chosen))
            for version in gone:
                self._discard(folder / "versions" / version)
        return len(gone)

    def _existing(self, ref: AppRef) -> Path:
        self.resolve(AppRef(ref.namespace, ref.name, ref.version))
        return self._folder(ref.namespace, ref.name)

    def _discard(self, target: Path) -> None:
        self._records.pop(target, None)
        with self.staging() as trash, contextlib.suppress(FileNotFoundError):
            target.rename(trash / "gone")

    def _folder(self, namespace: str, name: str) -> Path:
        return self._root / namespace / name

    def _read(self, target: Path, index: Index) -> Deployed:
        record = self._records.get(target)
        if record is None or not target.exists():
            try:
                record = msgspec.json.decode((target / RECORD).read_bytes(), type=AppVersion)
            except FileNotFoundError:
                raise AppUnknown(f"version {target.name[:10]} of {target.parents[1].name} was removed") from None
            except msgspec.MsgspecError as error:
                raise InternalError(f"the record of an app's version cannot be parsed: {target.name}") from error
            self._records[target] = record
        return Deployed(record, target / CONTENT, index.chosen.get(target.name, 0.0))

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(folder / "lock"):
            yield


def _version_of(index: Index, ref: AppRef) -> str:
    if ref.version is None:
        if index.latest is None:
            raise AppUnknown(f"no app {ref.app} is deployed here")
        return index.latest
    found = [version for version in index.versions if version.startswith(ref.version)]
    if len(found) != 1:
        what = "several versions that start with" if found else "no version"
        raise AppUnknown(f"{ref.app} has {what} {ref.version}; `mien apps show {ref.app}` lists them")
    return found[0]


def _with_latest(index: Index, version: str) -> Index:
    versions = index.versions if version in index.versions else (*index.versions, version)
    current = _without_repeats((*index.current, version))[-HISTORY:]
    return Index(versions, current, {**index.chosen, version: time.time()})


def _without_repeats(versions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(version for place, version in enumerate(versions) if place == 0 or versions[place - 1] != version)


def _read_index(folder: Path) -> Index:
    try:
        return msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
    except FileNotFoundError:
        return Index()
    except msgspec.MsgspecError as error:
        raise InternalError(f"the index of the app {folder.parent.name}/{folder.name} cannot be parsed") from error


def _write_index(folder: Path, index: Index) -> None:
    replace_file(folder / INDEX, msgspec.json.format(msgspec.json.encode(index)))
