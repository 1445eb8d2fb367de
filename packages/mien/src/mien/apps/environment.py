"""Environments of apps: made once by uv from their requirements, reused by every version that asks for the same.

`<cache_dir>/environments/<key>/` is complete or not there: it is built beside its place and renamed, under a lock.
"""

import asyncio
import contextlib
import hashlib
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path
from typing import Self

import msgspec
import uv

from mien.apps.manifest import Variant
from mien.apps.mirrors import uv_environment
from mien.apps.process import GuardedProcess, ProcessLimits
from mien.apps.record import Deployed
from mien.apps.wheel import PACKAGES, kernel_id, kernel_wheel
from mien.errors import EnvironmentFailed
from mien.locks import open_lock, try_lock, try_share_lock

RECORD = "environment.json"
STAGING = "staging-"
LAYOUT = 1  # environments of another layout are others
LOCK_POLL_SECONDS = 0.05
MESSAGE_LINES = 12
SERVER_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SDK_NAMES = ("inferencesh",)  # what requirements may call our SDK, besides `infsh`

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What an environment is made from."""

    requirements: str = ""
    """The text of requirements.txt."""
    python: str = ""
    """E.g. `3.12`; empty: the server's."""
    folder: Path | None = None
    """The app's files, which requirements may name by relative paths."""
    content: str = ""
    """The version of those files."""

    @classmethod
    def of(cls, deployed: Deployed, variant: Variant) -> Self:
        """What a deployed version runs in."""
        version = deployed.version
        return cls(version.requirements, variant.python, deployed.content, version.version)

    @property
    def bare(self) -> bool:
        """Whether the app asks for nothing but the SDK."""
        return not _requirement_lines(self.requirements) and self.python in ("", SERVER_PYTHON)


@dataclass(frozen=True, slots=True)
class Environment:
    """A finished environment."""

    key: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def path(self) -> str:
        """The search path for programs in it."""
        return f"{self.python.parent}{os.pathsep}{os.defpath}"

    @property
    def record(self) -> Path:
        """Says how it was made, by its time when it was last used, and is locked by those who use it."""
        return self.folder / RECORD

    def hold(self) -> int | None:
        """A descriptor: as long as any copy of it is open, nobody cleans the environment away. None: somebody has."""
        try:
            lock = os.open(self.record, os.O_RDONLY | os.O_CLOEXEC)  # the folder may be one that cannot be written
        except FileNotFoundError:
            return None
        if try_share_lock(lock):
            _mark_used(self)
            return lock
        os.close(lock)
        return None


class EnvironmentRecord(msgspec.Struct):
    """What is kept about an environment, in itself."""

    requirements: str
    python: str
    created: datetime
    seconds: float


def _mark_used(environment: Environment) -> None:
    with contextlib.suppress(OSError):  # not there, or not ours to write: then not ours to clean either
        os.utime(environment.record)


class Environments:
    """All environments of this machine. Processes and tasks that ask at once wait for one build."""

    def __init__(self, root: Path, *, constraints: Path | None = None, memory: int = 8 * 1024**3) -> None:
        self.root = root
        self._constraints = constraints
        self._limits = ProcessLimits(memory)
        self._builds: dict[str, _Build] = {}

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        """The environment, if it is there already."""
        return self._at(self.key(spec))

    async def ensure(self, spec: EnvironmentSpec, log: Log = lambda line: None) -> Environment:
        """The environment, built if need be; what the build prints goes to `log`. Raises EnvironmentFailed.

        A caller that is cancelled leaves the build to the others; without others it ends.
        """
        key = self.key(spec)
        self.mark_used([key])  # before looking: what was used just now is not cleaned away
        found = self._at(key)
        if found is not None:
            return found
        build = self._builds.get(key)
        if build is None:
            build = self._builds[key] = _Build()
            build.task = asyncio.create_task(self._build(key, spec, build.say))
            build.task.add_done_callback(lambda _: self._builds.pop(key, None))
        return await build.join(log)

    def key(self, spec: EnvironmentSpec) -> str:
        """Names the environment: equal keys may share one."""
        lines = _requirement_lines(spec.requirements)
        local = spec.content if any(_is_local(line) for line in lines) else ""
        constraints = self._constraints.read_text() if self._constraints else ""
        made_from = [LAYOUT, sys.version, sys.executable, spec.python, sorted(lines), local, constraints, kernel_id()]
        if spec.bare:
            made_from += [[(d.metadata["Name"], d.version) for d in _sdk_distributions()]]
        return hashlib.sha256(msgspec.json.encode(made_from)).hexdigest()[:20]

    def mark_used(self, keys: Iterable[str]) -> None:
        """Those of them that are there are in use as of now."""
        for key in keys:
            _mark_used(Environment(key, self.root / key))

    def _at(self, key: str) -> Environment | None:
        environment = Environment(key, self.root / key)
        return environment if environment.record.is_file() and environment.python.exists() else None

    async def _build(self, key: str, spec: EnvironmentSpec, log: Log) -> Environment:
        self.root.mkdir(parents=True, exist_ok=True)
        async with self._locked(key, log) as lock:
            found = self._at(key)
            if found is not None:
                return found
            with self._staging(key) as staged:
                started = time.monotonic()
                await self._fill(_Site(staged, spec.folder or staged.parent, log, lock), spec)
                seconds = time.monotonic() - started
                record = EnvironmentRecord(spec.requirements, spec.python or SERVER_PYTHON, datetime.now(UTC), seconds)
                (staged / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
                target = self.root / key
                if target.exists():  # its interpreter is gone
                    await asyncio.to_thread(shutil.rmtree, target)
                staged.rename(target)
                log(f"environment {key} is ready after {seconds:.1f} s")
        return Environment(key, self.root / key)

    async def _fill(self, site: "_Site", spec: EnvironmentSpec) -> None:
        site.log(f"making an environment with Python {spec.python or SERVER_PYTHON}")
        python = spec.python if spec.python not in ("", SERVER_PYTHON) else sys.executable
        venv = ["venv", "--quiet", "--relocatable", "--no-project", "--python", python, str(site.staged)]
        await self._uv(venv, site)
        environment = Environment("", site.staged)
        distributions = _sdk_distributions()
        if spec.bare and all(_copyable(distribution) for distribution in distributions):
            site.log("no requirements: copying the SDK and what it needs from the server")
            await asyncio.to_thread(_copy_distributions, distributions, environment)
            await asyncio.to_thread(_unpack, kernel_wheel(self.root / "wheels"), environment)
        else:
            await self._install(environment, spec, site)
        interpreter = str(environment.python)
        await self._run([interpreter, "-m", "compileall", "-q", str(_packages_of(environment))], site, check=False)
        await self._run([interpreter, "-I", "-c", "import infsh._kernel.protocol"], site)

    async def _install(self, environment: Environment, spec: EnvironmentSpec, site: "_Site") -> None:
        wheel = kernel_wheel(self.root / "wheels")
        build = environment.folder / "build"
        build.mkdir()
        requirements = (spec.folder or build) / "requirements.txt"
        if spec.folder is None:
            requirements.write_text(spec.requirements)
        overrides = build / "overrides.txt"
        never = [f"{name} ; python_version < '0'" for name in SDK_NAMES]
        overrides.write_text("\n".join([f"infsh @ {wheel.as_uri()}", *never]) + "\n")
        command = ["pip", "install", "--python", str(environment.python), "--overrides", str(overrides), str(wheel)]
        if spec.requirements:
            command += ["--requirements", str(requirements)]
        if self._constraints is not None:
            command += ["--constraints", str(self._constraints)]
        await self._uv(command, site)
        shutil.rmtree(build)

    async def _uv(self, arguments: list[str], site: "_Site") -> None:
        await self._run([uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never"], site)

    async def _run(self, command: list[str], site: "_Site", *, check: bool = True) -> None:
        process = await GuardedProcess.start(
            command,
            environment=_build_environment(),
            folder=site.cwd,
            limits=self._limits,
            merge=True,
            hold=[site.lock],
        )
        hide = [(f"{site.staged}{os.sep}", ""), (str(site.staged), "the environment")]
        hide += [(f"{folder}{os.sep}", "") for folder in (site.cwd, self.root)]
        lines: list[str] = []
        try:
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                for path, shown in hide:
                    line = line.replace(path, shown)
                if line:
                    lines.append(line)
                    site.log(line)
            ended = await process.wait()
        finally:
            process.kill()
            await process.wait()
        if check and not ended.ok:
            raise EnvironmentFailed(_failure(lines, ended.words()))

    @contextlib.asynccontextmanager
    async def _locked(self, key: str, log: Log) -> AsyncIterator[int]:
        lock = open_lock(self.root / f"{key}.lock")
        told = False
        try:
            while not try_lock(lock):
                if not told:
                    log("another process builds this environment; waiting for it")
                told = True
                await asyncio.sleep(LOCK_POLL_SECONDS)
            for leftover in self.root.glob(f"{STAGING}{key}-*"):
                await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
            yield lock
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def _staging(self, key: str) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix=f"{STAGING}{key}-", dir=self.root))
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Site:
    """Where an environment is being built."""

    staged: Path
    cwd: Path
    """The app's files, where there are any."""
    log: Log
    lock: int
    """Stays taken until the last process of the build has ended, also if this one dies."""


class _Build:
    """One build and everybody who waits for it."""

    task: "asyncio.Task[Environment]"

    def __init__(self) -> None:
        self._said: list[str] = []
        self._listeners: list[Log] = []

    def say(self, line: str) -> None:
        self._said.append(line)
        for listener in self._listeners:
            listener(line)

    async def join(self, log: Log) -> Environment:
        for line in self._said:
            log(line)
        self._listeners.append(log)
        try:
            return await asyncio.shield(self.task)
        finally:
            self._listeners.remove(log)
            if not self._listeners and not self.task.done():
                self.task.cancel()


def _build_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIEN_", "PYTHON", "PIP_")) and name != "VIRTUAL_ENV"
    }
    return {"UV_PYTHON_DOWNLOADS": "never", **uv_environment(), **kept, "UV_NO_PROGRESS": "1"}


def _requirement_lines(text: str) -> list[str]:
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _is_local(line: str) -> bool:
    """Whether the line's meaning depends on other files of the app."""
    return (
        line.startswith(("-r", "-c", "-e", "--req", "--con", "--edit", "--find", ".", "/"))
        or "file:" in line
        or "./" in line
    )


def _failure(lines: list[str], words: str) -> str:
    """The resolver's or builder's own words: from where the error starts, else the last lines."""
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith(("×", "error:"))]
    told = lines[starts[-1] :] if starts else lines[-MESSAGE_LINES:]
    return "the app's environment could not be made: " + ("\n".join(told[:MESSAGE_LINES])[:4000] or f"uv {words}")


# --- the shared environment of apps without requirements: a copy of what the server has, so it needs no network


@cache
def _sdk_distributions() -> tuple[Distribution, ...]:
    """What `infsh` needs, itself excluded, as installed here: optional parts that are here come along."""
    found: dict[str, Distribution] = {}
    look = list(_needs(importlib.metadata.distribution("infsh")))
    while look:
        name = look.pop()
        if name in found or name in PACKAGES:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        look += _needs(found[name])
    return tuple(found[name] for name in sorted(found))


def _needs(distribution: Distribution) -> list[str]:
    needed = []
    for requirement in distribution.requires or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is not None and "extra ==" not in requirement:
            needed.append(re.sub(r"[-_.]+", "-", name.group()).lower())
    return needed


def _copyable(distribution: Distribution) -> bool:
    return bool(distribution.files) and distribution.read_text("direct_url.json") is None


def _copy_distributions(distributions: tuple[Distribution, ...], environment: Environment) -> None:
    target = _packages_of(environment)
    for distribution in distributions:
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue  # programs and what Python makes again
            destination = target / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # removed by hand; RECORD still names it
                shutil.copyfile(str(file.locate()), destination)


def _unpack(wheel: Path, environment: Environment) -> None:
    shutil.unpack_archive(wheel, _packages_of(environment), "zip")


def _packages_of(environment: Environment) -> Path:
    if os.name == "nt":
        return environment.folder / "Lib" / "site-packages"
    return next((environment.folder / "lib").glob("python3.*")) / "site-packages"
