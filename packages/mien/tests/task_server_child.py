"""A server's task part in a process of its own, to be killed: `task_server_child.py FOLDER KILL_AT COUNT`.

Submits COUNT tasks and writes the id of each to FOLDER/accepted once it was acknowledged; every start of an attempt
goes to FOLDER/started before its work, every end of it to FOLDER/ended. KILL_AT names the step at which the process
kills itself with SIGKILL, and how many times that step goes well before: `after_claim:3`; `never` runs to the end.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from in_process_executor import InProcessExecutor

from mien.encoded import Encoded
from mien.storage.database import Database
from mien.tasks.policy import Policy
from mien.tasks.records import Submission
from mien.tasks.scheduler import Scheduler
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import TERMINAL
from mien.tasks.store import Filter

FOLDER = Path(sys.argv[1])
STEP, _, SKIP = sys.argv[2].partition(":")
COUNT = int(sys.argv[3])
left = int(SKIP or 0)


def reach(step: str) -> None:
    """Die here if this is the step."""
    global left
    if step == STEP:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def note(name: str, line: str) -> None:
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (line + "\n").encode())
    os.close(descriptor)


class Dying(Database):
    """Dies inside of transactions."""

    def _commit(self, works: Any) -> Any:
        reach("before_transaction")

        def dying(work: Any) -> Any:
            def run(connection: Any) -> Any:
                result = work(connection)
                reach("inside_transaction")
                return result

            return run

        results = super()._commit([dying(work) for work in works])
        reach("after_commit")
        return results


class DyingStore(SqlTaskStore):
    """Dies around its writes."""


for name in ("submit", "claim", "update", "finish", "give_back", "recover", "cancel"):

    def wrapped(name: str = name) -> Any:
        original = getattr(SqlTaskStore, name)

        async def call(self: Any, *arguments: Any, **options: Any) -> Any:
            reach(f"before_{name}")
            result = await original(self, *arguments, **options)
            reach(f"after_{name}")
            return result

        return call

    setattr(DyingStore, name, wrapped())


class Executor(InProcessExecutor):
    async def _work(self, attempt: Any, report: Any, stop: Any) -> Any:
        note("started", f"{attempt.id} {attempt.number} {os.getpid()}")
        reach("at_start_of_work")
        await asyncio.sleep(0.01)
        reach("in_the_middle_of_work")
        result = await super()._work(attempt, report, stop)
        reach("at_end_of_work")
        note("ended", f"{attempt.id} {attempt.number}")
        return result


async def main() -> None:
    database = await Dying.open(FOLDER / "tasks.db")
    store = DyingStore(database, retries=50)
    scheduler = Scheduler(store, [Executor(4)], Policy(grace=0.2))
    await scheduler.start()
    print("started", flush=True)  # noqa: T201 - the parent waits for it
    for number in range(COUNT):
        task, _ = await scheduler.submit(
            Submission(app="t/a", input=Encoded.of({"do": "chatter", "lines": 3, "n": number}))
        )
        note("accepted", task.id)
        if number % 5 == 4:
            await scheduler.cancel(task.id)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        tasks = (await store.find(Filter(), limit=10_000)).tasks
        if all(task.status in TERMINAL for task in tasks):
            break
        await asyncio.sleep(0.02)
    await scheduler.drain(1)
    await database.close()


asyncio.run(main())
