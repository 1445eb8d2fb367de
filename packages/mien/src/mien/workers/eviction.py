"""Ending idle workers: to free capacity, after the idle timeout, with their session, at shutdown."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

from mien.metrics import Metrics
from mien.workers.slots import Slots, WorkerSlot

UNLOAD_SECONDS = 5.0
TICK_SECONDS = 0.5

Reason = Literal["room", "idle", "session", "shutdown"]


class Eviction:
    """Ends workers in the background; `close` waits until all have ended."""

    def __init__(self, slots: Slots, metrics: Metrics, *, idle_seconds: float, min_warm: int) -> None:
        self._slots = slots
        self._metrics = metrics
        self._idle_seconds = idle_seconds
        self._min_warm = min_warm
        self._ticker: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start ending workers that exceed the idle timeout."""
        self._ticker = asyncio.create_task(self._tick())

    def evict(self, slot: WorkerSlot, reason: Reason) -> None:
        """End an idle worker in the background."""
        self._metrics.worker_evictions.labels(slot.key.app, reason).inc()
        slot.draining = True
        if slot.worker is not None:
            self.in_background(slot.worker.unload(UNLOAD_SECONDS))

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task, for which `close` waits."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """End all workers: idle ones unload, the others are killed."""
        if self._ticker is not None:
            self._ticker.cancel()
        for slot in self._slots:
            if slot.idle:
                self.evict(slot, "shutdown")
            elif slot.worker is not None:
                slot.worker.kill()
                await slot.worker.gone.wait()
        while self._background:
            await asyncio.wait(set(self._background))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for slot in self._slots.expired(self._idle_seconds, self._min_warm):
                self.evict(slot, "idle")
