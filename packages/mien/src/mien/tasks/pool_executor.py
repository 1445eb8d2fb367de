"""Runs attempts in the workers of the pool."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infsh import StorageDir
from mien.apps.reference import AppRef
from mien.apps.registry import AppRegistry
from mien.encoded import Encoded
from mien.errors import MienError, class_of_code
from mien.settings import Locations, Workers
from mien.storage.disk import disk_errors
from mien.tasks.executor import AppFailed, Reporter, StopReason, WorkerLost
from mien.tasks.records import Attempt, Candidate
from mien.tasks.run_listener import RunListener
from mien.workers.files import FileGate, NoFiles, OutputFiles
from mien.workers.fit import Fit
from mien.workers.job import Job
from mien.workers.listener import AppError, RunCancelled, WorkerGone
from mien.workers.placement import Need
from mien.workers.pool import WorkerPool, need_of
from mien.workers.run_dir import sweep_orphans
from mien.workers.slots import WorkerKey, WorkerSlot
from mien.workers.worker import Worker

DEFAULT_FUNCTION = "run"
KNOWN_PROFILES = 4096
STORAGE = tuple(Path(directory) for directory in StorageDir)
"""Where `StorageDir` of the SDK puts files in a container."""
CODES = {"input": "invalid_input", "load": "load_failed", "setup": "setup_failed", "out_of_memory": "out_of_memory"}


class PoolExecutor:
    """Implements the scheduler's Executor with supervised worker processes."""

    def __init__(
        self,
        pool: WorkerPool,
        registry: AppRegistry,
        workers: Workers,
        locations: Locations,
        *,
        check_session: Callable[[str], object],
        files: FileGate | None = None,
    ) -> None:
        """`check_session` raises MienError for a session that is over."""
        self._check_session = check_session
        self._pool = pool
        self._registry = registry
        self._workers = workers
        self._locations = locations
        self._files: FileGate = files or NoFiles()
        self._profiles: dict[tuple[str, str, str], _Profile] = {}
        self._reserved: dict[str, WorkerSlot | MienError] = {}
        self._running: dict[str, _Running] = {}

    def takes(self, candidate: Candidate) -> bool:
        return True

    def fit(self, candidate: Candidate) -> Fit:
        try:
            return self._pool.fit(_key(candidate), self._profile(candidate).need)
        except MienError:
            return Fit.NEVER  # its app was removed or cannot be read: `execute` raises the reason

    def reserve(self, candidate: Candidate) -> None:
        try:
            if candidate.session_id is not None:
                # Before a slot is taken: from then on the session has a worker again, but one without its state.
                self._check_session(candidate.session_id)
            self._reserved[candidate.id] = self._pool.reserve(_key(candidate), self._profile(candidate).need)
        except MienError as error:
            self._reserved[candidate.id] = error

    def release(self, task_id: str) -> None:
        slot = self._reserved.pop(task_id, None)
        if isinstance(slot, WorkerSlot):
            self._pool.release(slot)

    def grace(self, candidate: Candidate) -> float | None:
        try:
            return self._profile(candidate).grace
        except MienError:
            return None  # `execute` raises the reason

    async def execute(self, attempt: Attempt, report: Reporter) -> Any:
        slot = self._reserved.pop(attempt.id)
        if isinstance(slot, MienError):
            raise slot
        listener = RunListener(
            report,
            lambda: self._output_files(slot, _run_id(attempt)),
            partial(self._files.store, attempt.id, attempt.task.owner),
            partial(self._files.download, attempt.task.owner),
        )
        work = asyncio.ensure_future(self._work(attempt, slot, report, listener))
        self._running[attempt.id] = _Running(_run_id(attempt), slot, listener, work)
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            work.cancel()
            while not work.done():  # also if it is cancelled again: until then the worker is alive
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({work})
            raise
        finally:
            del self._running[attempt.id]
        return _result(work)

    def stop(self, task_id: str, reason: StopReason, grace: float) -> None:
        running = self._running.get(task_id)
        if running is None:
            return
        if running.listener.in_app and running.slot.worker is not None:
            running.slot.worker.cancel(running.run_id, grace)
        else:
            running.work.cancel()

    async def reap(self) -> None:
        await asyncio.to_thread(sweep_orphans, self._locations.workers_dir)

    async def _work(self, attempt: Attempt, slot: WorkerSlot, report: Reporter, listener: RunListener) -> Any:
        task, run_id = attempt.task, _run_id(attempt)
        report.worker(slot.name)
        try:
            deployed = self._registry.resolve(_ref(task.app, task.app_version))
            job = Job(
                run_id,
                deployed,
                task.variant,
                _function(task.function, deployed.version.functions),
                task.setup,
                _metadata(attempt, slot),
                task.session_timeout,
                partial(self._localised, task.id, task.owner),
            )
        except BaseException:
            self._pool.release(slot)
            raise
        folder: list[Path] = []

        async def prepare(worker: Worker) -> Encoded:
            folder.append(worker.spec.files_of(run_id))
            with disk_errors("the task was not started"):
                folder[0].mkdir(mode=0o700)
            return await self._files.fetch(task.id, task.owner, task.input, folder[0])

        async def finish(worker: Worker, output: Any) -> Any:
            return await listener.final(output, self._files_of(worker, run_id))

        try:
            return await self._pool.run(slot, job, listener, prepare, finish)
        except AppError as error:
            if error.traceback:
                report.log(error.traceback)
            raise AppFailed(error.message, _code(error)) from error
        except RunCancelled:
            raise AppFailed("the task was cancelled", "cancelled") from None
        except WorkerGone as gone:
            raise WorkerLost(gone.reason) from gone
        finally:
            await listener.close()
            if folder:
                await _remove(folder[0])

    async def _localised(self, task_id: str, owner: str, setup: Any, folder: Path) -> Any:
        """The setup with the files in it copied to `folder`."""
        return (await self._files.fetch(task_id, owner, Encoded.of(setup), folder)).value

    def _output_files(self, slot: WorkerSlot, run_id: str) -> OutputFiles:
        worker = slot.worker
        assert worker is not None  # noqa: S101 - it sent the output
        return self._files_of(worker, run_id)

    def _files_of(self, worker: Worker, run_id: str) -> OutputFiles:
        """Finds files in the run's outputs. Other runs have files in the worker's directory, too: not all counts."""
        spec = worker.spec
        own = (spec.folder / "app", spec.folder / "home", spec.files_of(run_id), spec.files_of(None))
        shared = (Path("/tmp"), Path(tempfile.gettempdir()), *STORAGE, *self._workers.app_output_dirs)  # noqa: S108 - read only
        return OutputFiles(spec.marker, self._locations.data_dir, (*own, spec.environment.folder), shared)

    def _profile(self, candidate: Candidate) -> "_Profile":
        """What the version needs; read once, as versions are immutable."""
        key = (candidate.app, candidate.app_version, candidate.variant)
        profile = self._profiles.get(key)
        if profile is None:
            deployed = self._registry.resolve(_ref(candidate.app, candidate.app_version))
            if len(self._profiles) >= KNOWN_PROFILES:
                self._profiles.clear()
            need = need_of(deployed, candidate.variant, self._workers)
            profile = self._profiles[key] = _Profile(need, deployed.version.manifest.grace)
        return profile


async def _remove(folder: Path) -> None:
    try:
        folder.rmdir()  # most runs get no files; a thread costs more than removing an empty folder
    except FileNotFoundError:
        return  # removed with its worker
    except OSError:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Profile:
    """What scheduling needs to know about a variant of a version."""

    need: Need
    grace: float | None


@dataclass(frozen=True, eq=False, slots=True)
class _Running:
    run_id: str
    slot: WorkerSlot
    listener: RunListener
    work: "asyncio.Future[Any]"


def _result(work: "asyncio.Future[Any]") -> Any:
    if work.cancelled():
        raise AppFailed("the task was stopped before the app ran", "cancelled")
    return work.result()


def _code(error: AppError) -> str:
    """The task's error code: that of a file which could not be fetched, if it is one of this server's codes."""
    return error.code if class_of_code(error.code) else CODES.get(error.kind, "app_failed")


def _key(candidate: Candidate) -> WorkerKey:
    return WorkerKey(candidate.app, candidate.app_version, candidate.variant, candidate.setup_key, candidate.session_id)


def _ref(app: str, version: str) -> AppRef:
    namespace, _, name = app.partition("/")
    return AppRef(namespace, name, version or None)


def _run_id(attempt: Attempt) -> str:
    return f"{attempt.id}.{attempt.number}"


def _function(name: str, known: Any) -> str | None:
    """`run` stands for the app's default function where the app has no function of that name."""
    return None if name == DEFAULT_FUNCTION and name not in known else name


def _metadata(attempt: Attempt, slot: WorkerSlot) -> dict[str, Any]:
    task = attempt.task
    return {
        **task.metadata,
        "app_id": task.app,
        "app_version_id": task.app_version,
        "app_variant": task.variant,
        "worker_id": slot.name,
        "gpu_ids": [str(gpu) for gpu in slot.grant.gpu_ids],
        "task_id": task.id,
    }
