"""A real executor without processes: coroutines in slots, warm by affinity, scripted by the task's input.

`{"do": "echo"}` returns the input; `sleep` takes `seconds`, obeying `stop`; `wait` takes until `go` is set; `stubborn`
ignores `stop`, so only cancellation ends it; `fail`, `lose` and `crash` raise AppFailed, WorkerLost, RuntimeError
(`lose` in the first `times` attempts, then it is `sleep`); `chatter` logs `lines`; `stream` reports its `outputs`.
"""

import asyncio
from typing import Any

from mien.tasks.executor import AppFailed, Reporter, StopReason, WorkerLost
from mien.tasks.records import Attempt, Candidate
from mien.workers.fit import Fit
from mien.workers.listener import Stage


class InProcessExecutor:
    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        self.reserved: dict[str, Candidate] = {}
        self.running: dict[str, asyncio.Event] = {}
        self.go = asyncio.Event()
        self.warm: list[tuple[Any, ...]] = []
        """Affinities of idle workers, the least recently used first."""
        self.started: list[tuple[str, int]] = []
        self.cold_starts = 0
        self.stops: list[tuple[str, StopReason]] = []
        self.most_at_once = 0
        self.twice: list[str] = []
        self.reaped = 0

    def takes(self, candidate: Candidate) -> bool:
        return True

    def fit(self, candidate: Candidate) -> Fit:
        if len(self.reserved) + len(self.running) >= self.slots:
            return Fit.NO_CAPACITY
        return Fit.WARM if candidate.affinity in self.warm else Fit.COLD

    def reserve(self, candidate: Candidate) -> None:
        self.reserved[candidate.id] = candidate

    def release(self, task_id: str) -> None:
        del self.reserved[task_id]

    def grace(self, candidate: Candidate) -> float | None:
        return None

    async def execute(self, attempt: Attempt, report: Reporter) -> Any:
        candidate = self.reserved.pop(attempt.id)
        if attempt.id in self.running:
            self.twice.append(attempt.id)
        stop = self.running[attempt.id] = asyncio.Event()
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.started.append((attempt.id, attempt.number))
        try:
            report.worker("in-process")
            if candidate.affinity in self.warm:
                self.warm.remove(candidate.affinity)
            else:
                self.cold_starts += 1
                report.stage(Stage.SETTING_UP)
            report.stage(Stage.RUNNING)
            return await self._work(attempt, report, stop)
        finally:
            del self.running[attempt.id]
            self.warm.append(candidate.affinity)
            del self.warm[: max(0, len(self.warm) - self.slots)]

    async def _work(self, attempt: Attempt, report: Reporter, stop: asyncio.Event) -> Any:
        given = attempt.task.input.value or {}
        match given.get("do", "echo"):
            case "echo":
                return given
            case "sleep":
                return await self._sleep(given["seconds"], stop)
            case "wait":
                await self.go.wait()
            case "stubborn":
                await asyncio.sleep(3600)
            case "fail":
                raise AppFailed("it went wrong")
            case "lose":
                if attempt.number <= given.get("times", 99):
                    raise WorkerLost("signal 9")
                return await self._sleep(given.get("seconds", 0), stop)
            case "crash":
                raise RuntimeError("a bug")
            case "chatter":
                for number in range(given["lines"]):
                    report.log(f"line {number}")
                    if number % 10 == 0:
                        report.progress(number / given["lines"], f"at {number}")
                        await asyncio.sleep(given.get("pause", 0))
                return None
            case "stream":
                for value in given["outputs"]:
                    report.output(value)
                    await asyncio.sleep(given.get("pause", 0))
                return given["outputs"][-1]
            case "nonsense":
                return object()
        return None

    async def _sleep(self, seconds: float, stop: asyncio.Event) -> str:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            return "slept"
        raise AppFailed("stopped")

    def stop(self, task_id: str, reason: StopReason, grace: float) -> None:
        self.stops.append((task_id, reason))
        if task_id in self.running:
            self.running[task_id].set()

    async def reap(self) -> None:
        self.reaped += 1
