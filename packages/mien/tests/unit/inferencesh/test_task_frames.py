"""Frames of a stream: whatever a task does and wherever a stream is cut, nothing is lost and nothing comes twice."""

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mien.http.inferencesh.frames import Frame, frames_of, newest
from mien.http.inferencesh.rendering import ascii_json
from mien.tasks.feed import Cursor, Update
from mien.tasks.machine import accept
from mien.tasks.records import Event, LogKind, LogLine, Submission, Task
from mien.tasks.status import Status

line_sizes = st.lists(st.integers(0, 3).map(lambda size: size * 30_000), max_size=4)
steps = st.lists(st.tuples(st.integers(0, 3), line_sizes), min_size=1, max_size=8)


def life(steps: list[tuple[int, list[int]]]) -> list[tuple[Task, list[LogLine]]]:
    """States of one task, and all log lines up to each."""
    task = accept(Submission(app="a/b"), seq=1, retries=0, now=1.0)
    lines: list[LogLine] = []
    states = [(task, list(lines))]
    for jump, sizes in steps:
        events = task.events
        for _ in range(jump):
            following = min(events[-1].status + 1, Status.COMPLETED)
            if events[-1].status is not Status.COMPLETED:
                events = (*events, Event(Status(following), float(len(events)), 1))
        if task.status is Status.COMPLETED:
            break
        lines = [*lines, *(LogLine(len(lines) + n, 1, 1.0, LogKind.RUN, "x" * size) for n, size in enumerate(sizes, 1))]
        task = replace(task, status=events[-1].status, events=events, log_count=len(lines), revision=task.revision + 1)
        states.append((task, list(lines)))
    return states


def update_from(cursor: Cursor, task: Task, lines: list[LogLine]) -> Update:
    after = Cursor(task.revision, len(task.events), task.log_count)
    return Update(task, task.events[cursor.events :], tuple(lines[cursor.logs :]), after)


@given(steps, st.lists(st.booleans(), min_size=60, max_size=60), st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_cut_streams_lose_and_repeat_nothing(
    steps: list[tuple[int, list[int]]], cuts: list[bool], pace: list[int]
) -> None:
    states = life(steps)
    frames: list[Frame] = []
    cursor, place, first = Cursor(), 0, True
    cut, speed = iter(cuts * 20), iter(pace * 20)
    while True:
        task, lines = states[place]
        if task.revision > cursor.revision:
            for frame in frames_of(update_from(cursor, task, lines), cursor, first=first):
                frames.append(frame)
                if next(cut):  # the connection breaks behind this frame
                    cursor, first = frame.cursor, False
                    break
            else:
                cursor, first = update_from(cursor, task, lines).cursor, False
            if cursor.revision < task.revision:
                continue
        if place == len(states) - 1:
            break
        place = min(len(states) - 1, place + 1 + next(speed))
    task, lines = states[-1]
    assert [event for frame in frames for event in frame.events] == list(task.events)
    assert [line.number for frame in frames for line in frame.logs] == [line.number for line in lines]
    numbers = [frame.task.status for frame in frames]
    assert numbers == sorted(numbers)
    assert all(not frame.task.terminal for frame in frames[:-1])
    assert frames[-1].task == task


@given(
    st.recursive(
        st.text() | st.integers(-9, 9) | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_ascii_and_the_same(value: object) -> None:
    data = ascii_json(value)
    assert data.isascii()
    assert json.loads(data) == orjson.loads(orjson.dumps(value))
    assert b"\n" not in data


def test_the_newest_lines_are_kept() -> None:
    lines = [LogLine(number, 1, 1.0, LogKind.RUN, "x" * 1000) for number in range(1, 301)]
    assert [line.number for line in newest(lines, 3)] == [298, 299, 300]
    assert len(newest(lines, 1000, 50_000)) < 50
    assert [line.number for line in newest(lines[:1], 5, 10)] == [1]
