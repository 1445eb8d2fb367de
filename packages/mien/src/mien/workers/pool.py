"""The pool of warm workers: reused by runs with the same key, started if there is none, evicted for others.

`slots` chooses, `bring_up` starts and `eviction` ends workers; this module takes a run through them.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mien.apps.environments import Environments
from mien.apps.manifest import Variant
from mien.apps.record import Deployed
from mien.encoded import Encoded
from mien.errors import MienError, Unavailable
from mien.metrics import Metrics
from mien.settings import Workers
from mien.workers.bring_up import BringUp
from mien.workers.crashes import CrashBreaker
from mien.workers.eviction import Eviction
from mien.workers.fit import Fit
from mien.workers.handshake import socket_folder
from mien.workers.job import Job
from mien.workers.listener import AppError, PoolListener, RunCancelled, Stage, WorkerGone
from mien.workers.local_process import LocalWorker
from mien.workers.placement import Need, Placement
from mien.workers.run_dir import WorkerRunDir
from mien.workers.slots import Slots, WorkerKey, WorkerSlot
from mien.workers.worker import StartWorker, Worker

T = TypeVar("T")
Prepare = Callable[[Worker], Awaitable[Encoded]]
"""Returns the input for a run in that worker, with files copied to its directory."""
Finish = Callable[[Worker, Any], Awaitable[Any]]
"""Returns the final output for the worker's output, while its files still exist."""


class WorkerPool:
    """All workers of a server. Used on one event loop: state only changes between awaits, so that no lock is needed but
    the one for each slot's start."""

    def __init__(
        self,
        settings: Workers,
        placement: Placement,
        environments: Environments,
        run_dir: WorkerRunDir,
        *,
        start_worker: StartWorker = LocalWorker.start,
        metrics: Metrics | None = None,
        on_capacity_freed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_capacity_freed`: called when a run may fit that did not before."""
        metrics = metrics or Metrics()
        self._run_dir = run_dir
        self._on_capacity_freed = on_capacity_freed
        self._slots = Slots(placement)
        self._breaker = CrashBreaker(settings.app_crashes)
        self._bring_up = BringUp(settings, environments, run_dir, start_worker, self._breaker, metrics)
        self._eviction = Eviction(
            self._slots, metrics, idle_seconds=settings.app_idle_seconds, min_warm=settings.app_min_warm
        )
        self._closed = False

    def start(self) -> None:
        """Start ending workers that exceed the idle timeout. Raises InvalidSettings if no worker could connect."""
        socket_folder()
        self._eviction.start()

    # --- choosing a slot: synchronous, without I/O

    def fit(self, key: WorkerKey, need: Need) -> Fit:
        """How well a run with this key would be placed now."""
        if self._closed:
            return Fit.NO_CAPACITY
        return self._slots.fit(key, need, has_environment=self._bring_up.has_environment(key))

    def reserve(self, key: WorkerKey, need: Need) -> WorkerSlot:
        """Reserve a slot for one run; evicts idle workers if necessary. Raises NoResources, Unavailable."""
        if self._closed:
            raise Unavailable("the server is shutting down")
        reservation = self._slots.reserve(key, need)
        for slot in reservation.evicted:
            self._eviction.evict(slot, "room")
        return reservation.slot

    def release(self, slot: WorkerSlot) -> None:
        """Release a reservation, or a slot after its run."""
        self._slots.release(slot)
        if slot.load == 0 and not slot.ready:
            self._vacate(slot)
        self._on_capacity_freed()

    def _vacate(self, slot: WorkerSlot) -> None:
        """Remove a slot that has no worker.

        Workers that were evicted for it may still be running, in the resources that were claimed for it. The slot then
        stays until they are gone, so that memory which is still in use is not claimed again.
        """
        workers = [predecessor.worker for predecessor in slot.predecessors]
        holding = [worker for worker in workers if worker is not None and not worker.gone.is_set()]
        if not holding:
            self._slots.remove(slot)
            return
        slot.draining = True

        async def wait() -> None:
            for worker in holding:
                await worker.gone.wait()
            self._slots.remove(slot)
            self._on_capacity_freed()

        self._eviction.in_background(wait())

    # --- running

    async def run(self, slot: WorkerSlot, job: Job, listener: PoolListener, prepare: Prepare, finish: Finish) -> Any:
        """Run the job in a reserved slot, release the slot, and return the output.

        Raises AppError, RunCancelled, WorkerGone, MienError. On return, the worker can be used by others or its process
        is dead. If the caller is cancelled during the run, the worker is killed.
        """
        try:
            async with slot.start_lock:
                if not slot.ready:
                    await self._start(slot, job, listener)
                worker = slot.worker
            assert worker is not None  # noqa: S101 - ready
            given = await _with_files(worker, prepare(worker))
            output = await self._run(slot, worker, job, given, listener)
            return await _with_files(worker, finish(worker, output))
        finally:
            if slot.worker is not None and slot.worker.gone.is_set():
                self._slots.worker_ended(slot)
            self.release(slot)

    async def _start(self, slot: WorkerSlot, job: Job, listener: PoolListener) -> None:
        slot.draining = False  # it is set if the worker died after the reservation
        worker = await self._bring_up.start(slot, job, listener)
        slot.ready = True
        self._eviction.in_background(self._watch(slot, worker, job.deployed))

    async def _run(self, slot: WorkerSlot, worker: Worker, job: Job, given: Encoded, listener: PoolListener) -> Any:
        listener.stage(Stage.RUNNING)
        slot.idle_seconds = job.session_seconds
        try:
            output = await worker.run(job.run_id, job.function, given, job.metadata, listener)
        except (AppError, RunCancelled):
            self._breaker.worked(job.deployed)
            raise
        except WorkerGone:
            raise
        except BaseException:
            await worker.kill_and_wait()
            raise
        self._breaker.worked(job.deployed)
        return output

    async def _watch(self, slot: WorkerSlot, worker: Worker, deployed: Deployed) -> None:
        """Notice the worker's end, also while it is idle. A crash counts once, however many runs it had."""
        await worker.gone.wait()
        if worker.why is not None:
            self._bring_up.note_end(deployed, worker.why)
        if slot in self._slots and slot.worker is worker:  # the slot may already have another worker
            self._slots.worker_ended(slot)
            self._on_capacity_freed()

    # --- sessions and inspection

    def end_session(self, session_id: str) -> bool:
        """End the session's worker: now if it is idle, else after its run. Returns whether there was one."""
        found = self._slots.of_session(session_id)
        for slot in found:
            if slot.idle:
                self._eviction.evict(slot, "session")
            else:
                slot.idle_seconds = 0.0
        return bool(found)

    def has_session(self, session_id: str) -> bool:
        """Whether the session's worker, and thus its state, still exists."""
        return any(not slot.draining for slot in self._slots.of_session(session_id))

    def keep_session(self, session_id: str) -> bool:
        """Restart the idle timeout of the session's worker. Returns whether there is one."""
        return self._slots.keep_session(session_id)

    @property
    def slots(self) -> tuple[WorkerSlot, ...]:
        """The slots of all workers, also starting and draining ones."""
        return tuple(self._slots)

    def states(self) -> Counter[tuple[str, str]]:
        """Number of workers by app and state."""
        return self._slots.states()

    async def close(self) -> None:
        """End all workers: idle ones unload, the others are killed."""
        self._closed = True
        await self._eviction.close()
        await asyncio.to_thread(self._run_dir.close)


async def _with_files(worker: Worker, work: Awaitable[T]) -> T:
    """Await `work`, which uses files in the worker's directory. If it fails because they were removed with the worker,
    raise WorkerGone instead, so that the task is retried as if the worker had died during the run."""
    try:
        return await work
    except (AppError, MienError, OSError):
        if not worker.ended:
            raise
        await worker.gone.wait()
        raise worker.why or WorkerGone("the worker is gone") from None


def need_of(deployed: Deployed, variant: str, settings: Workers) -> Need:
    """The resources of one worker of that version and variant. An unknown variant is rejected later, when it starts."""
    profile = deployed.version.manifest.variant(variant) or Variant()
    return Need(profile.resources.ram or settings.app_memory, profile.resources.gpus)
