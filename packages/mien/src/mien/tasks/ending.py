"""How an attempt ended: pure functions from what the executor did, and why it was stopped, to what is written."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from mien.errors import MienError
from mien.tasks import machine
from mien.tasks.executor import AppFailed, StopReason, WorkerLost
from mien.tasks.machine import Outcome
from mien.tasks.status import Status

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The attempt ended without a result: the task is queued again while something speaks for a new attempt."""

    reason: str
    lost: bool
    """Whether a worker was lost, which uses up one of the task's retries."""


Ending = Outcome | GiveBack


def ending_of(execution: "asyncio.Task[Any]", task_id: str, output_bytes: int) -> Ending:
    """What follows from an execution that is done. `output_bytes`: the most that an output may have."""
    try:
        return _completed(execution.result(), output_bytes)
    except asyncio.CancelledError:
        return GiveBack("its worker was killed", lost=True)
    except WorkerLost as error:
        return GiveBack(error.reason, lost=True)
    except AppFailed as error:
        return Outcome(status=Status.FAILED, error=error.message, error_code=error.code)
    except MienError as error:
        return Outcome(status=Status.FAILED, error=error.message, error_code=error.code)
    except Exception as error:
        log.error("an executor failed", task=task_id, exc_info=error)
        return Outcome(
            status=Status.FAILED,
            error_code="internal",
            error="a bug or a broken machine; the server's log has the details under the task's id",
        )


def stopped_ending(ending: Ending, reason: StopReason | None) -> Ending:
    """The ending of an attempt that was asked to stop.

    A stop that somebody was promised wins over whatever the app still returned: a cancelled task is CANCELLED even if
    it completed in its grace period. A shutdown promises nothing, so there a result that came in time is kept.
    """
    if reason == "cancelled":
        return machine.CANCELLED
    if reason == "deadline":
        return machine.deadline_outcome("the task's time was up while it ran")
    if reason == "shutdown" and not (isinstance(ending, Outcome) and ending.status is Status.COMPLETED):
        return GiveBack("the server was stopped", lost=False)
    return ending


def unstarted_ending(reason: StopReason | None) -> Ending:
    """The ending of an attempt that was stopped between its claim and its start."""
    return GiveBack("it had not started", lost=False) if reason == "shutdown" else machine.CANCELLED


def _completed(output: Any, most: int) -> Outcome:
    try:
        size = len(orjson.dumps(output))
    except TypeError as error:
        return Outcome(status=Status.FAILED, error=f"the output is not JSON: {error}", error_code="app_failed")
    if size > most:
        sizes = f"the output has {size} bytes; this server keeps {most}"
        return Outcome(
            status=Status.FAILED, error=f"{sizes}. Return large data as files", error_code="output_too_large"
        )
    return Outcome(status=Status.COMPLETED, output=output)
