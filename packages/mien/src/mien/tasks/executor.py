"""Which executor has a task: the built-in apps', or the worker pool's."""

from typing import Any

from mien.tasks.builtin import BuiltinExecutor, is_builtin
from mien.tasks.execution import Reporter, StopReason
from mien.tasks.records import Attempt, Candidate
from mien.tasks.sessions import Sessions
from mien.tasks.worker_executor import PoolExecutor
from mien.workers.fit import Fit


class AppExecutor:
    """Implements the scheduler's Executor for all apps."""

    def __init__(self, builtin: BuiltinExecutor, pool: PoolExecutor, sessions: Sessions) -> None:
        self._builtin = builtin
        self._pool = pool
        self._sessions = sessions
        self._mine: dict[str, BuiltinExecutor | PoolExecutor] = {}

    def fit(self, candidate: Candidate) -> Fit:
        return self._of(candidate).fit(candidate)

    def reserve(self, candidate: Candidate) -> None:
        executor = self._mine[candidate.id] = self._of(candidate)
        executor.reserve(candidate)

    def release(self, task_id: str) -> None:
        if (executor := self._mine.pop(task_id, None)) is not None:
            executor.release(task_id)

    def grace(self, candidate: Candidate) -> float | None:
        return self._of(candidate).grace(candidate)

    async def execute(self, attempt: Attempt, report: Reporter) -> Any:
        executor = self._mine[attempt.id]
        try:
            if attempt.task.session_id is not None:
                try:
                    self._sessions.check(attempt.task.session_id)
                except BaseException:
                    executor.release(attempt.id)
                    raise
            return await executor.execute(attempt, report)
        finally:
            self._mine.pop(attempt.id, None)

    def stop(self, task_id: str, reason: StopReason, grace: float) -> None:
        if (executor := self._mine.get(task_id)) is not None:
            executor.stop(task_id, reason, grace)

    async def reap(self) -> None:
        await self._pool.reap()

    def _of(self, candidate: Candidate) -> BuiltinExecutor | PoolExecutor:
        return self._builtin if is_builtin(candidate.app, candidate.app_version) else self._pool
