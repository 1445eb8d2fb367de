"""How an attempt ended: pure functions from the executor's result and the stop reason to the outcome to be written."""

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
    """The attempt ended without a result: the task is queued again unless it was cancelled, is too late or has no
    retries left."""

    reason: str
    lost: bool
    """Whether a worker was lost, which uses up one of the task's retries."""


Ending = Outcome | GiveBack


def ending_of(execution: "asyncio.Task[Any]", task_id: str, output_bytes: int) -> Ending:
    """The ending that a finished execution leads to. `output_bytes`: the limit for the output."""
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
            error="internal error; the server's log has the details under the task's id",
        )


def stopped_ending(ending: Ending, reason: StopReason | None) -> Ending:
    """The ending of an attempt that was asked to stop.

    An acknowledged cancel or deadline takes precedence over the app's result: a cancelled task is CANCELLED even if
    it completed within its grace period. A shutdown was promised to no client, so a result that came in time is kept.
    """
    if reason == "cancelled":
        return machine.CANCELLED
    if reason == "deadline":
        return machine.deadline_outcome("the task exceeded its deadline while it ran")
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
