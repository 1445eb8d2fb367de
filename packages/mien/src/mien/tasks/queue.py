"""The queued tasks, in memory, in the order in which they will be started."""

import heapq
from collections.abc import Callable, Collection
from typing import Any

from mien.tasks.records import Candidate
from mien.workers.fit import Fit

FitOf = Callable[[Candidate], Fit]


class Queue:
    """Queued tasks, grouped by owner and affinity: choosing looks at one task per group.

    Order: priority; then those that have waited longer than `aging_seconds`, by age; then the best fit; then age.
    After 2 × `aging_seconds` an unplaceable task becomes a barrier: what came after it is not started before it.
    """

    def __init__(self, aging_seconds: float) -> None:
        self._aging_seconds = aging_seconds
        self._known: dict[str, Candidate] = {}
        self._scheduled: set[str] = set()
        self._groups: dict[tuple[Any, ...], list[tuple[int, int, str]]] = {}
        self._later: list[tuple[float, str]] = []
        self._deadlines: list[tuple[float, str]] = []
        self._stale = 0

    def __len__(self) -> int:
        """Number of tasks that may start now."""
        return len(self._known) - len(self._scheduled)

    @property
    def scheduled(self) -> int:
        """Number of tasks that wait for their `run_at`."""
        return len(self._scheduled)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._known

    def add(self, candidate: Candidate, now: float) -> None:
        """Queue it. Idempotent."""
        if self._known.get(candidate.id) == candidate:
            return
        self._known[candidate.id] = candidate
        if candidate.deadline is not None:
            heapq.heappush(self._deadlines, (candidate.deadline, candidate.id))
        if candidate.run_at is not None and candidate.run_at > now:
            heapq.heappush(self._later, (candidate.run_at, candidate.id))
            self._scheduled.add(candidate.id)
        else:
            self._enter(candidate)

    def discard(self, task_id: str) -> None:
        """Remove the task, if present. Its heap entries are skipped when they come up."""
        self._scheduled.discard(task_id)
        if self._known.pop(task_id, None) is not None:
            self._stale += 1
            if self._stale > max(1000, 2 * len(self._known)):
                self._rebuild()

    def next_time(self) -> float | None:
        """The earliest time at which a task becomes due or misses its deadline."""
        times = [heap[0][0] for heap in (self._later, self._deadlines) if self._trimmed(heap)]
        return min(times, default=None)

    def next_run_at(self) -> float | None:
        """The earliest time at which a task becomes due."""
        return self._later[0][0] if self._trimmed(self._later) else None

    def discard_late(self, now: float) -> None:
        """Remove the tasks that have missed their deadline."""
        while self.deadline_passed(now):
            self.discard(heapq.heappop(self._deadlines)[1])

    def deadline_passed(self, now: float) -> bool:
        """Whether a queued task has missed its deadline."""
        return bool(self._trimmed(self._deadlines)) and self._deadlines[0][0] <= now

    def choose(
        self, now: float, fit_of: FitOf, full: Collection[str], full_owners: Collection[str] = ()
    ) -> Candidate | None:
        """Remove and return the task to start next; None if none can be placed now. `full`, `full_owners`: apps and
        owners that are at their limit; their tasks are passed over, and hold nobody back."""
        self.admit_due(now)
        ranked: list[tuple[tuple[int, bool, int, int], Candidate]] = []
        barrier: tuple[int, int] | None = None
        for group in list(self._groups):
            if (head := self._head(group)) is None or head.app in full or head.owner in full_owners:
                continue
            fit = fit_of(head)
            waited = now - max(head.created_at, head.run_at or 0.0)
            if fit.startable:
                aged = waited > self._aging_seconds
                ranked.append(((-head.priority, not aged, 0 if aged else -fit, head.seq), head))
            elif fit is Fit.NO_CAPACITY and waited > 2 * self._aging_seconds:
                # Without it, small tasks could fill every gap and starve a large one; behind the barrier the machine
                # drains until it fits. A BLOCKED task is no barrier: no other task's end would help it.
                barrier = min(barrier or (-head.priority, head.seq), (-head.priority, head.seq))
        if barrier is not None:
            ranked = [(rank, head) for rank, head in ranked if (-head.priority, head.seq) < barrier]
        if not ranked:
            return None
        chosen = min(ranked, key=lambda entry: entry[0])[1]
        self.discard(chosen.id)
        return chosen

    def admit_due(self, now: float) -> None:
        """Let the tasks in whose `run_at` has come."""
        while self._trimmed(self._later) and self._later[0][0] <= now:
            self._enter(self._known[heapq.heappop(self._later)[1]])

    def _enter(self, candidate: Candidate) -> None:
        self._scheduled.discard(candidate.id)
        entry = (-candidate.priority, candidate.seq, candidate.id)
        heapq.heappush(self._groups.setdefault(_group(candidate), []), entry)

    def _rebuild(self) -> None:
        """Drop the entries of removed tasks, so that memory is bounded by the queue's length."""
        known, later = self._known, self._scheduled
        self._stale = 0
        self._known, self._scheduled, self._groups, self._later, self._deadlines = {}, set(), {}, [], []
        for candidate in known.values():
            self.add(candidate, float("-inf") if candidate.id in later else float("inf"))

    def _head(self, group: tuple[Any, ...]) -> Candidate | None:
        heap = self._groups[group]
        while heap:
            candidate = self._known.get(heap[0][2])
            if candidate is not None and _group(candidate) == group:
                return candidate
            heapq.heappop(heap)
        del self._groups[group]
        return None

    def _trimmed(self, heap: list[tuple[float, str]]) -> list[tuple[float, str]]:
        while heap and heap[0][1] not in self._known:
            heapq.heappop(heap)
        return heap


def _group(candidate: Candidate) -> tuple[Any, ...]:
    """Tasks of one group differ only in their place in the order."""
    return candidate.owner, *candidate.affinity
