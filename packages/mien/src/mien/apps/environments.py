"""The environments of apps: each is built once and shared by all versions with the same specification.

`<cache_dir>/environments/<key>/` is complete or absent: it is built in a staging directory and renamed, under a lock.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mien.apps.environment import (
    RECORD,
    SERVER_PYTHON,
    Environment,
    EnvironmentRecord,
    EnvironmentSpec,
    is_local,
    requirement_lines,
)
from mien.apps.environment_build import BuildCommands, fill
from mien.apps.process import ProcessLimits
from mien.apps.sdk_copy import sdk_distributions
from mien.apps.wheel import kernel_id, kernel_wheel
from mien.locks import open_lock, try_lock

STAGING = "staging-"
LAYOUT = 1  # part of the key: increment it when environments are built differently
LOCK_POLL_SECONDS = 0.05

Log = Callable[[str], None]


class Environments:
    """All environments of this machine. Concurrent requests for one, also of other processes, share one build."""

    def __init__(self, root: Path, *, constraints: Path | None = None, memory: int = 8 * 1024**3) -> None:
        self.root = root
        self._constraints = constraints
        self._limits = ProcessLimits(memory)
        self._builds: dict[str, _SharedBuild] = {}

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        """The environment, if it has been built."""
        return self._at(self.key(spec))

    async def ensure(self, spec: EnvironmentSpec, log: Log = lambda line: None) -> Environment:
        """The environment, built if necessary; the build's output goes to `log`. Raises EnvironmentFailed.

        If a caller is cancelled, the build goes on for the others; without others it is cancelled.
        """
        key = self.key(spec)
        self.mark_used([key])  # before looking it up, so that it is not cleaned up in between
        found = self._at(key)
        if found is not None:
            return found
        build = self._builds.get(key)
        if build is None:
            build = self._builds[key] = _SharedBuild()
            build.task = asyncio.create_task(self._build(key, spec, build.say))
            build.task.add_done_callback(lambda _: self._builds.pop(key, None))
        return await build.join(log)

    def key(self, spec: EnvironmentSpec) -> str:
        """The key of the environment; specifications with equal keys share it."""
        lines = requirement_lines(spec.requirements)
        local = spec.content if any(is_local(line) for line in lines) else ""
        constraints = self._constraints.read_text() if self._constraints else ""
        made_from = [LAYOUT, sys.version, sys.executable, spec.python, sorted(lines), local, constraints, kernel_id()]
        if spec.bare:
            made_from += [[(d.metadata["Name"], d.version) for d in sdk_distributions()]]
        return hashlib.sha256(msgspec.json.encode(made_from)).hexdigest()[:20]

    def mark_used(self, keys: Iterable[str]) -> None:
        """Set the time of the last use to now, for environments that exist."""
        for key in keys:
            Environment(key, self.root / key).mark_used()

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
                await self._fill(staged, spec, log, lock)
                seconds = time.monotonic() - started
                record = EnvironmentRecord(spec.requirements, spec.python or SERVER_PYTHON, datetime.now(UTC), seconds)
                (staged / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
                target = self.root / key
                if target.exists():  # it lost its interpreter
                    await asyncio.to_thread(shutil.rmtree, target)
                staged.rename(target)
                log(f"environment {key} is ready after {seconds:.1f} s")
        return Environment(key, self.root / key)

    async def _fill(self, staged: Path, spec: EnvironmentSpec, log: Log, lock: int) -> None:
        commands = BuildCommands(staged, spec.folder or staged.parent, self.root, log, lock, self._limits)
        await fill(commands, spec, kernel_wheel(self.root / "wheels"), self._constraints)

    @contextlib.asynccontextmanager
    async def _locked(self, key: str, log: Log) -> AsyncIterator[int]:
        lock = open_lock(self.root / f"{key}.lock")
        logged = False
        try:
            # Polled, instead of waiting in a thread: a thread that blocks in flock cannot be cancelled.
            while not try_lock(lock):
                if not logged:
                    log("another process is building this environment; waiting for it")
                logged = True
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


class _SharedBuild:
    """A build and the callers that wait for it."""

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
