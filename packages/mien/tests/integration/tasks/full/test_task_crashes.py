"""A server killed with -9 at every step of its tasks' lives loses none of them and runs none twice at once."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from mien.errors import DatabaseInUse
from mien.storage.database import Database
from mien.tasks.records import Task
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import TERMINAL, Status
from mien.tasks.store import Filter

CHILD = Path(__file__).parents[3] / "task_server_child.py"

CHAINS = [
    ["before_submit:3", "after_submit:3", "before_claim:2", "in_the_middle_of_work:3"],
    ["inside_transaction:2", "at_start_of_work:2", "before_finish:3", "after_commit:9"],
    ["before_transaction:9", "after_claim:2", "at_end_of_work:3", "after_cancel:0"],
    ["inside_transaction:20", "before_update:1", "after_finish:3"],
    ["after_update:0", "before_cancel:0", "in_the_middle_of_work:0"],
]
WHILE_RECOVERING = ["before_recover", "after_recover", "inside_transaction"]


def child(folder: Path, kill_at: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(CHILD), str(folder), kill_at, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 50) -> int:
    _, errors = process.communicate(timeout=seconds)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


def lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def stored(folder: Path) -> Sequence[Task]:
    async def read() -> Sequence[Task]:
        database = await Database.open(folder / "tasks.db")
        try:
            return (await SqlTaskStore(database).find(Filter(), limit=10_000)).tasks
        finally:
            await database.close()

    return asyncio.run(read())


def check(folder: Path) -> None:
    """Every accepted task is there, ended once, and no attempt was started twice."""
    tasks = {task.id: task for task in stored(folder)}
    accepted = lines(folder, "accepted")
    assert set(accepted) <= set(tasks)
    for task in tasks.values():
        assert task.status in TERMINAL, task
        assert task.status in (Status.COMPLETED, Status.CANCELLED), task
        assert [event.status in TERMINAL for event in task.events].count(True) == 1
        order = [(event.attempt, event.status) for event in task.events]
        assert order == sorted(set(order))
    assert accepted
    started = Counter(tuple(line.split()[:2]) for line in lines(folder, "started"))
    assert max(started.values()) == 1
    ended = Counter(line.split()[0] for line in lines(folder, "ended"))
    for task in tasks.values():
        if task.status is Status.COMPLETED:
            assert ended[task.id] >= 1


@pytest.mark.parametrize("steps", CHAINS, ids=lambda steps: "+".join(steps))
def test_killed_at_each_of(tmp_path: Path, steps: list[str]) -> None:
    for step in steps:
        assert finish(child(tmp_path, step, 12)) == -signal.SIGKILL, f"{step} was never reached"
    assert finish(child(tmp_path, "never", 0)) == 0
    check(tmp_path)


def test_killed_again_while_recovering(tmp_path: Path) -> None:
    assert finish(child(tmp_path, "in_the_middle_of_work:4", 12)) == -signal.SIGKILL
    for step in WHILE_RECOVERING:
        assert finish(child(tmp_path, step, 0)) == -signal.SIGKILL
    assert finish(child(tmp_path, "never", 0)) == 0
    check(tmp_path)


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    first = child(tmp_path, "never", 400)
    assert first.stdout is not None
    assert first.stdout.readline() == "started\n"
    with pytest.raises(DatabaseInUse, match="another server"):
        asyncio.run(Database.open(tmp_path / "tasks.db"))
    first.kill()
    finish(first)
    assert len(stored(tmp_path)) <= 400  # the lock went with the process


@pytest.mark.soak
@pytest.mark.limit(900)
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_time_again_and_again(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(8):
        process = child(tmp_path, "never", 60)
        assert process.stdout is not None
        if chance.random() < 0.8:  # the others are killed while they start, or recover
            assert "started\n" in process.stdout  # reads until that line
        time.sleep(chance.uniform(0.0, 0.6))
        process.kill()
        finish(process)
    assert finish(child(tmp_path, "never", 0)) == 0
    assert len(lines(tmp_path, "started")) > 20, "the servers did next to nothing before they were killed"
    check(tmp_path)
