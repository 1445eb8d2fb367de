"""The frames of a task's stream, without any I/O: which frames an update produces, and what they contain.

Every frame is a snapshot of the task. `new_events` and `new_logs` contain what no earlier frame did, so that a client
that concatenates them, over any number of resumed connections, has every status and every log line exactly once.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator

import msgspec

from mien.encoded import NULL
from mien.http.inferencesh import schema
from mien.http.inferencesh.dialect import Table
from mien.http.inferencesh.rendering import event_json, log_json, task_json
from mien.storage.links import Links
from mien.tasks.feed import Cursor, Update
from mien.tasks.records import Event, LogLine, Task

TAIL_LINES = 100
FULL_LINES = 1000
FULL_CHARS = 192 * 1024
"""Clients read lines of at most 512 KiB."""
CHUNK_CHARS = 96 * 1024
SMALL_INPUT = 16 * 1024
"""Bytes of JSON up to which every frame repeats the input."""
MAX_CACHED = 256
MAX_CACHED_BYTES = 32 * 1024 * 1024


class Frame(msgspec.Struct, frozen=True):
    """One frame, before it is rendered in a dialect."""

    task: Task
    cursor: Cursor
    """Resuming from it continues directly after this frame."""
    events: tuple[Event, ...] = ()
    logs: tuple[LogLine, ...] = ()
    whole: bool = False
    """The first and the last frame of a stream are complete; those in between omit a large input."""


def frames_of(update: Update, before: Cursor, *, first: bool) -> Iterator[Frame]:
    """The frames that take a watcher from `before` to the update: one per status, more if there are many logs.

    The first frame of a stream summarises what happened before it; the terminal status only comes with the last.
    """
    task, events = update.task, update.events
    passed = before.events
    if not first:
        for event in events[:-1]:
            passed += 1
            yield Frame(_as_of(task, passed), Cursor(before.revision, passed, before.logs), (event,))
        events = events[-1:]
    *early, last = list(_chunks(update.logs)) or [()]
    for lines in early:
        told = events[: len(events) - task.terminal] if first and not passed else ()
        passed += len(told)
        events = events[len(told) :]
        yield Frame(_as_of(task, passed), Cursor(before.revision, passed, lines[-1].number), told, lines)
    yield Frame(task, update.cursor, events, last, whole=first or task.terminal)


def _as_of(task: Task, passed: int) -> Task:
    """The task as it was after its first `passed` events."""
    event = task.events[max(0, passed - 1)]
    return msgspec.structs.replace(task, status=event.status, updated_at=event.at, events=task.events[:passed])


def _chunks(lines: Iterable[LogLine]) -> Iterator[tuple[LogLine, ...]]:
    chunk: list[LogLine] = []
    size = 0
    for line in lines:
        if chunk and size + len(line.text) > CHUNK_CHARS:
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line.text)
    if chunk:
        yield tuple(chunk)


def newest(lines: Iterable[LogLine], count: int, chars: int = FULL_CHARS) -> tuple[LogLine, ...]:
    """The last lines, at most `count` of them and about `chars` characters."""
    kept: deque[LogLine] = deque()
    for line in reversed(list(lines)):
        chars -= len(line.text) + 100
        if len(kept) == count or (chars < 0 and kept):
            break
        kept.appendleft(line)
    return tuple(kept)


def frame_json(frame: Frame, tail: Iterable[LogLine], table: Table, links: Links, base: str) -> schema.TaskFrame:
    """The frame's object. `tail`: the task's newest log lines."""
    task = frame.task
    shorter = not frame.whole and task.input.size > SMALL_INPUT
    if shorter:
        task = msgspec.structs.replace(task, input=NULL)
    number = frame.cursor.events - len(frame.events)
    shown: schema.TaskFrame = {
        **task_json(task, table, links, base, newest(tail, FULL_LINES if frame.whole else TAIL_LINES)),
        "new_events": [
            event_json(event, task.id, number + place, table) for place, event in enumerate(frame.events, 1)
        ],
        "new_logs": [log_json(line, task.id) for line in frame.logs],
        "cursor": str(frame.cursor),
    }
    if shorter:
        del shown["input"]
    return shown


class FrameCache:
    """Encoded frames, made once for all clients that follow a task from the same position."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The bytes for that key, made by `make` unless they are cached."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = make()
            self._size += len(known)
            while len(self._known) > MAX_CACHED or self._size > MAX_CACHED_BYTES:
                self._size -= len(self._known.popitem(last=False)[1])
        return known


def sse(data: bytes, cursor: str) -> bytes:
    """One event of an event stream."""
    return b"id: " + cursor.encode() + b"\ndata: " + data + b"\n\n"


def ndjson(data: bytes, _cursor: str) -> bytes:
    """One line."""
    return data + b"\n"
