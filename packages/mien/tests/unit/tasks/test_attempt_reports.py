"""What an attempt reports is collected, and written in order."""

from collections.abc import Callable
from typing import Any

import pytest

from mien.tasks.machine import Outcome
from mien.tasks.records import Attempt, LogKind, Submission
from mien.tasks.reports import AttemptReporter
from mien.tasks.status import Status
from mien.tasks.store import TaskStore
from mien.workers.listener import Stage


@pytest.fixture
async def attempt(store: TaskStore, submission: Callable[..., Submission], clock: Any) -> Attempt:
    task, _ = await store.submit(submission())
    attempt = await store.claim(task.id, "server-1", clock() + 30)
    assert attempt is not None
    return attempt


@pytest.fixture
def reporter(store: TaskStore, attempt: Attempt, clock: Any) -> AttemptReporter:
    return AttemptReporter(store, attempt, log_bytes=200, output_bytes=20, clock=clock, lost=lambda: None)


async def end(store: TaskStore, reporter: AttemptReporter) -> Any:
    changes = await reporter.close()
    return await store.finish(reporter.attempt, Outcome(status=Status.FAILED), changes)


async def test_lines_are_of_the_stage_in_which_they_come(store: TaskStore, reporter: AttemptReporter) -> None:
    reporter.log("before")
    for stage in Stage:
        reporter.stage(stage)
        reporter.log(stage.name)
    task = await end(store, reporter)
    assert [(line.kind, line.text) for line in await store.logs(task.id)] == [
        (LogKind.TASK, "before"),
        (LogKind.BUILD, "PREPARING"),
        (LogKind.SERVE, "SERVING"),
        (LogKind.SETUP, "SETTING_UP"),
        (LogKind.RUN, "RUNNING"),
        (LogKind.RUN, "UPLOADING"),
    ]


async def test_stages_are_statuses_and_never_go_back(store: TaskStore, reporter: AttemptReporter) -> None:
    for stage in (Stage.SERVING, Stage.PREPARING, Stage.RUNNING, Stage.RUNNING):
        reporter.stage(stage)
    task = await end(store, reporter)
    assert [event.status for event in task.events[3:]] == [Status.SERVING, Status.RUNNING, Status.FAILED]


async def test_of_progress_and_outputs_the_newest_is_kept(store: TaskStore, reporter: AttemptReporter) -> None:
    for number in range(3):
        reporter.progress(number / 4, f"at {number}")
        reporter.output({"n": number})
    task = await end(store, reporter)
    assert (task.progress, task.progress_message, task.output) == (0.5, "at 2", {"n": 2})


@pytest.mark.parametrize(("given", "kept"), [(-1.0, 0.0), (7.0, 1.0), (float("nan"), None)])
async def test_progress_is_between_0_and_1(
    store: TaskStore, reporter: AttemptReporter, given: float, kept: float | None
) -> None:
    reporter.progress(given)
    assert (await end(store, reporter)).progress == kept


@pytest.mark.parametrize(("output", "words"), [("x" * 30, "32 bytes"), (object(), "not JSON")])
async def test_outputs_that_cannot_be_kept_are_left_out_with_a_note(
    store: TaskStore, reporter: AttemptReporter, output: Any, words: str
) -> None:
    reporter.output(1)
    reporter.stage(Stage.RUNNING)
    reporter.output(output)
    task = await end(store, reporter)
    (line,) = await store.logs(task.id)
    assert (task.output, line.kind, words in line.text) == (1, LogKind.TASK, True)


async def test_a_full_log_says_so_once(store: TaskStore, reporter: AttemptReporter) -> None:
    for number in range(100):
        reporter.log(f"line {number}")
    task = await end(store, reporter)
    lines = [line.text for line in await store.logs(task.id)]
    assert lines[0] == "line 0"
    assert ["full" in line for line in lines] == [False] * (len(lines) - 1) + [True]


async def test_nothing_is_taken_after_the_end(store: TaskStore, reporter: AttemptReporter) -> None:
    await end(store, reporter)
    reporter.log("late")
    reporter.stage(Stage.RUNNING)
    assert await reporter.close() is None
