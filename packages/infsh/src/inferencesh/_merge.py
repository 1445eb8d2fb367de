"""Turns frames of a stream into states of a task: merges partial frames, drops repeated ones. No I/O."""

from collections import OrderedDict
from typing import Any

from inferencesh._frames import Frame
from inferencesh._status import Task, in_our_numbers, status_of

REMEMBERED = 4096  # frames remembered to recognise a server that replays its stream


class Merger:
    """The known state of a task."""

    def __init__(self, task: Task | None = None) -> None:
        self.task: Task = dict(task or {})
        """The newest state. Never changed in place, so that emitted states stay as they were."""
        self.last_id: str | None = None
        """Id of the newest frame, from which the stream is resumed."""
        self._seen: OrderedDict[int, None] = OrderedDict()

    def add(self, frame: Frame) -> Task | None:
        """The state after `frame`; None if nothing has changed."""
        fields = changed(frame.value)
        if fields is None:
            return None
        task = in_our_numbers({**self.task, **fields})
        task |= {"logs": joined(self.task.get("logs"), fields["logs"])} if "logs" in fields else {}
        if frame.id is not None and self._repeated(frame.id, frame.mark) and not _just_ended(self.task, task):
            return None
        if task == self.task:
            return None
        self.task = task
        return task

    def _repeated(self, frame_id: str, mark: int) -> bool:
        """Whether the frame was seen before: the same position in the stream, or a replayed older part."""
        known = hash((frame_id, mark))
        repeated = frame_id == self.last_id or known in self._seen
        self._seen[known] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if not repeated:
            self.last_id = frame_id
        return repeated


def joined(old: Any, new: Any) -> Any:
    """Merges a log with a later part of it, by increasing line ids; without such ids, the later one replaces it."""
    if not (isinstance(old, list) and isinstance(new, list) and old and new):
        return new
    first = _number(new[0])
    if first is None or any(_number(line) is None for line in (old[0], old[-1])):
        return new
    return [line for line in old if (_number(line) or 0) < first] + new


def _number(line: Any) -> int | None:
    found = line.get("id") if isinstance(line, dict) else None
    return found if isinstance(found, int) else None


def _just_ended(old: Task, new: Task) -> bool:
    before, after = status_of(old), status_of(new)
    return after is not None and after.terminal and not (before is not None and before.terminal)


def changed(value: dict[str, Any]) -> dict[str, Any] | None:
    """The fields that a frame sets, complete or partial; None if it is not a frame of a task."""
    data = value.get("data")
    if isinstance(data, dict) and isinstance(value.get("fields"), list):
        return {**{name: None for name in value["fields"] if isinstance(name, str)}, **data}
    if "event" in value and "status" not in value:
        return None
    return value
