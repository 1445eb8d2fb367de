"""The warm pool: workers are reused by runs with the same key, started when there is none, evicted for others.

The choice is in `slots`, the start in `bring_up`, the end in `eviction`; here is the way of one run through them.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

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
from mien.workers.job import Job
from mien.workers.listener import AppError, PoolListener, RunCancelled, Stage, WorkerGone
from mien.workers.local_process import LocalWorker
from mien.workers.placement import Need, Placement
from mien.workers.run_dir import WorkerRunDir
from mien.workers.slots import Slots, WorkerKey, WorkerSlot
from mien.workers.worker import StartWorker, Worker

Prepare = Callable[[Worker], Awaitable[Encoded]]
"""Makes the input for that worker: files in its folder."""
Finish = Callable[[Worker, Any], Awaitable[Any]]
"""Makes the final output of what the worker answered, while its files are still there."""


class WorkerPool:
    """All workers of a server. Runs on one event loop: state only changes between awaits, so that the only lock is that
    of each slot's start."""

    def __init__(
        self,
        settings: Workers,
        placement: Placement,
        environments: Environments,
        run_dir: WorkerRunDir,
        *,
        start_worker: StartWorker = LocalWorker.start,
        metrics: Metrics | None = None,
        on_room: Callable[[], None] = lambda: None,
        fetch_private: bool = False,
    ) -> None:
        """`fetch_private`: files that callers name by URL may come from private addresses."""
        metrics = metrics or Metrics()
        self._run_dir = run_dir
        self._on_room = on_room
        self._slots = Slots(placement)
        self._breaker = CrashBreaker(settings.app_crashes)
        self._bring_up = BringUp(
            settings, environments, run_dir, start_worker, self._breaker, metrics, fetch_private=fetch_private
        )
        self._eviction = Eviction(
            self._slots, metrics, idle_seconds=settings.app_idle_seconds, min_warm=settings.app_min_warm
        )
        self._closed = False

    def start(self) -> None:
        """Begin to end workers that were idle for long."""
        self._eviction.start()

    # --- choosing a slot: fast, synchronous

    def fit(self, key: WorkerKey, need: Need) -> Fit:
        """How well a run with this key would be placed now."""
        if self._closed:
            return Fit.NO_ROOM
        return self._slots.fit(key, need, has_environment=self._bring_up.has_environment(key))

    def reserve(self, key: WorkerKey, need: Need) -> WorkerSlot:
        """Take the slot that `fit` has just spoken of; idle workers in its way end. Raises NoResources, Unavailable."""
        if self._closed:
            raise Unavailable("the server is shutting down")
        reservation = self._slots.reserve(key, need)
        for slot in reservation.evicted:
            self._eviction.evict(slot, "room")
        return reservation.slot

    def release(self, slot: WorkerSlot) -> None:
        """Give a reservation, or a finished run, back."""
        self._slots.release(slot)
        if slot.load == 0 and not slot.ready:
            self._vacate(slot)
        self._on_room()

    def _vacate(self, slot: WorkerSlot) -> None:
        """Give up a slot that has no worker yet.

        Its room may still be held by the processes of those that were evicted for it, which it has not waited for:
        until they are gone the slot stays, so that memory which is still in use is not given away.
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
            self._on_room()

        self._eviction.in_background(wait())

    # --- running

    async def run(self, slot: WorkerSlot, job: Job, listener: PoolListener, prepare: Prepare, finish: Finish) -> Any:
        """Run the job in a reserved slot, give the slot back, and return the output.

        Raises AppError, RunCancelled, WorkerGone, MienError. When this ends, the worker is idle again or its process is
        dead. If the caller is cancelled, the worker is killed.
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
        slot.draining = False  # it was, if its worker died after the reservation
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
        """Notice the worker's end, also while it is idle. A crash counts once, however many runs it took along."""
        await worker.gone.wait()
        if worker.why is not None:
            self._bring_up.note_end(deployed, worker.why)
        if slot in self._slots and slot.worker is worker:  # the slot may have its next one already
            self._slots.worker_ended(slot)
            self._on_room()

    # --- sessions, and what others see

    def end_session(self, session_id: str) -> bool:
        """End the session's worker if it is idle, else after its run. Returns whether there was one."""
        found = self._slots.of_session(session_id)
        for slot in found:
            if slot.idle:
                self._eviction.evict(slot, "session")
            else:
                slot.idle_seconds = 0.0
        return bool(found)

    def has_session(self, session_id: str) -> bool:
        """Whether the session's worker, and so its state, is still there."""
        return any(not slot.draining for slot in self._slots.of_session(session_id))

    def keep_session(self, session_id: str) -> bool:
        """Begin the idle time of the session's worker anew. Returns whether there is one."""
        return self._slots.keep_session(session_id)

    @property
    def slots(self) -> tuple[WorkerSlot, ...]:
        """Every worker that is up or starting."""
        return tuple(self._slots)

    def states(self) -> Counter[tuple[str, str]]:
        """How many workers there are by app and state."""
        return self._slots.states()

    async def close(self) -> None:
        """End all workers: the idle ones unload, the others are killed."""
        self._closed = True
        await self._eviction.close()
        await asyncio.to_thread(self._run_dir.close)


async def _with_files(worker: Worker, work: Awaitable[Any]) -> Any:
    """The result of `work`, which uses files in the worker's folder. If it fails because they were removed with the
    worker, that is reported as the worker's end: the task is retried, as if the worker had died in the run."""
    try:
        return await work
    except (AppError, MienError, OSError):
        if not worker.ended:
            raise
        await worker.gone.wait()
        raise worker.why or WorkerGone("the worker is gone") from None


def need_of(deployed: Deployed, variant: str, settings: Workers) -> Need:
    """What one worker of that version and variant holds; an unknown variant is refused later, with a message."""
    profile = deployed.version.manifest.variant(variant) or Variant()
    return Need(profile.resources.ram or settings.app_memory, profile.resources.gpus)
