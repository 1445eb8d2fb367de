"""What is written at the end of an attempt, by what the executor did and why it was stopped."""

import asyncio
from typing import Any

import pytest

from mien.errors import StorageFull
from mien.tasks.ending import Ending, GiveBack, ending_of, stopped_ending, unstarted_ending
from mien.tasks.executor import AppFailed, WorkerLost
from mien.tasks.machine import CANCELLED, Outcome
from mien.tasks.status import Status

DONE = Outcome(status=Status.COMPLETED, output={"x": 1})
LOST = GiveBack("signal 9", lost=True)


async def executed(result: Any) -> "asyncio.Task[Any]":
    async def execute() -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    task = asyncio.create_task(execute())
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"x": 1}, DONE),
        (AppFailed("no", "setup_failed"), Outcome(status=Status.FAILED, error="no", error_code="setup_failed")),
        (StorageFull("full"), Outcome(status=Status.FAILED, error="full", error_code="storage_full")),
        (WorkerLost("signal 9"), LOST),
        (asyncio.CancelledError(), GiveBack("its worker was killed", lost=True)),
    ],
    ids=["output", "app-failed", "error-of-the-server", "worker-lost", "cancelled"],
)
async def test_how_an_execution_ended(result: Any, expected: Ending) -> None:
    assert ending_of(await executed(result), "t", 100) == expected


@pytest.mark.parametrize(
    ("output", "code"), [("x" * 99, "output_too_large"), (object(), "app_failed"), (RuntimeError("bug"), "internal")]
)
async def test_outputs_that_cannot_be_kept_and_bugs_fail_the_task(output: Any, code: str) -> None:
    ending = ending_of(await executed(output), "t", 100)
    assert isinstance(ending, Outcome)
    assert (ending.status, ending.error_code) == (Status.FAILED, code)


@pytest.mark.parametrize("ending", [DONE, LOST])
def test_a_cancel_and_a_deadline_win_over_whatever_the_app_returned(ending: Ending) -> None:
    assert stopped_ending(ending, None) is ending
    assert stopped_ending(ending, "cancelled") == CANCELLED
    late = stopped_ending(ending, "deadline")
    assert isinstance(late, Outcome)
    assert late.error_code == "deadline_exceeded"


def test_a_shutdown_keeps_a_result_that_came_in_time_and_costs_no_retry() -> None:
    assert stopped_ending(DONE, "shutdown") is DONE
    assert stopped_ending(LOST, "shutdown") == GiveBack("the server was stopped", lost=False)
    assert unstarted_ending("shutdown") == GiveBack("it had not started", lost=False)
    assert unstarted_ending("cancelled") == CANCELLED
