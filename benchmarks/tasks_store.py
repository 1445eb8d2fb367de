"""The durable task store and scheduler beside their ceiling, in one run: `python benchmarks/tasks_store.py`.

Ceiling: bare SQLite in WAL mode with `synchronous=FULL` on the same disk, rows as large as a task's, one transaction
per row and 50 rows per transaction. Ours: tasks that are on disk before they are acknowledged, then the whole life of
a task (submit, claim, run, complete) with an executor that does nothing, and its changes told to 100 watchers.
"""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.encoded import Encoded
from mien.storage.database import Database
from mien.tasks.executor import Reporter, StopReason
from mien.tasks.feed import Feed
from mien.tasks.policy import Policy
from mien.tasks.records import Attempt, Candidate, Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.store import Change
from mien.workers.fit import Fit
from mien.workers.listener import Stage

PAYLOAD = {"prompt": "x" * 300, "seed": 1}


@dataclass(frozen=True)
class Figures:
    """Rates per second, times in milliseconds."""

    ceiling_rows: float
    ceiling_rows_grouped: float
    submits_one_caller: float
    submits_50_callers: float
    tasks_one_caller: float
    tasks_50_callers: float
    done_p50_ms: float
    done_p99_ms: float
    loaded_done_p50_ms: float
    loaded_done_p99_ms: float
    watched_updates: float
    watched_task_ms: float


class NoOp:
    """Places for `slots` tasks that return their input at once."""

    def __init__(self, slots: int) -> None:
        self._free = slots

    def takes(self, candidate: Candidate) -> bool:
        return True

    def fit(self, candidate: Candidate) -> Fit:
        return Fit.WARM if self._free else Fit.NO_CAPACITY

    def reserve(self, candidate: Candidate) -> None:
        self._free -= 1

    def grace(self, candidate: Candidate) -> float | None:
        return None

    def release(self, task_id: str) -> None:
        self._free += 1

    async def execute(self, attempt: Attempt, report: Reporter) -> Any:
        report.worker("no-op")
        report.stage(Stage.RUNNING)
        self._free += 1
        return attempt.task.input.value

    def stop(self, task_id: str, reason: StopReason, grace: float) -> None: ...

    async def reap(self) -> None: ...


def ceiling(folder: Path, rows_each: int, seconds: float) -> float:
    """Rows per second of plain inserts, `rows_each` per transaction."""
    connection = sqlite3.connect(folder / f"ceiling{rows_each}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE rows (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT)")
    rows, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(rows_each):
            rows += 1
            connection.execute("INSERT INTO rows (id, body) VALUES (?, ?)", (f"{rows:026}", "x" * 900))
        connection.execute("COMMIT")
    rate = rows / (time.perf_counter() - began)
    connection.close()
    return rate


async def rate(callers: int, seconds: float, work: Callable[[], Any]) -> float:
    """Calls per second of so many callers, each with one call at a time."""
    count, end = 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await work()
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(callers)])
    return count / (time.perf_counter() - began)


class Waiter:
    """Ends of tasks, as the store tells them."""

    def __init__(self, store: SqlTaskStore) -> None:
        self._ends: dict[str, asyncio.Future[Task]] = {}
        store.listen(self._heard)

    def _heard(self, change: Change) -> None:
        if change.created:
            self._ends[change.task.id] = asyncio.get_running_loop().create_future()
        elif change.task.terminal:
            self._ends[change.task.id].set_result(change.task)

    async def end_of(self, task_id: str) -> Task:
        task = await self._ends[task_id]
        del self._ends[task_id]
        return task


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(folder: Path, seconds: float) -> Figures:
    ceilings = ceiling(folder, 1, seconds), ceiling(folder, 50, seconds)
    database = await Database.open(folder / "submits.db")
    store = SqlTaskStore(database)
    submission = Submission(app="bench/noop", input=Encoded.of(PAYLOAD))
    submits = [await rate(callers, seconds, lambda: store.submit(submission)) for callers in (1, 50)]
    await database.close()

    database = await Database.open(folder / "tasks.db")
    store = SqlTaskStore(database)
    feed, waiter = Feed(store), Waiter(store)
    async with Scheduler(store, [NoOp(8)], Policy()) as scheduler:
        times: list[float] = []

        async def whole() -> None:
            began = time.perf_counter()
            task, _ = await scheduler.submit(submission)
            await waiter.end_of(task.id)
            times.append(1000 * (time.perf_counter() - began))

        await rate(1, 0.3, whole)
        times.clear()
        one = await rate(1, seconds, whole)
        alone = list(times)
        times.clear()
        many = await rate(50, seconds, whole)
        loaded = list(times)
        updates, task_ms = await fan_out(scheduler, feed, submission, seconds)
    await database.close()
    return Figures(
        ceiling_rows=ceilings[0],
        ceiling_rows_grouped=ceilings[1],
        submits_one_caller=submits[0],
        submits_50_callers=submits[1],
        tasks_one_caller=one,
        tasks_50_callers=many,
        done_p50_ms=statistics.median(alone),
        done_p99_ms=percentile(alone, 0.99),
        loaded_done_p50_ms=statistics.median(loaded),
        loaded_done_p99_ms=percentile(loaded, 0.99),
        watched_updates=updates,
        watched_task_ms=task_ms,
    )


async def fan_out(scheduler: Scheduler, feed: Feed, submission: Submission, seconds: float) -> tuple[float, float]:
    """Updates told per second, and milliseconds per task, with 100 watchers on each task from its first moment."""
    told, tasks, end, began = 0, 0, time.perf_counter() + seconds, time.perf_counter()

    async def follow(task_id: str) -> None:
        nonlocal told
        with await feed.watch(task_id) as watch:
            async for _ in watch:
                told += 1

    while time.perf_counter() < end:
        task, _ = await scheduler.submit(submission)
        await asyncio.gather(*[follow(task.id) for _ in range(100)])
        tasks += 1
    took = time.perf_counter() - began
    return told / took, 1000 * took / tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--folder", type=Path, default=None, help="where to put the databases: the disk to measure")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = asyncio.run(measure(Path(folder), options.seconds))
    for name, value in asdict(figures).items():
        print(f"{name:24} {value:10.2f}")
    if options.json is not None:
        conditions = {
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "seconds": options.seconds,
            "load": os.getloadavg()[0],
        }
        options.json.write_text(json.dumps({"conditions": conditions, "figures": asdict(figures)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
