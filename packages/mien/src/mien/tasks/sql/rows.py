"""Conversion between tasks and rows."""

from typing import Any

import msgspec
import orjson

from mien.encoded import NULL, Encoded
from mien.errors import TaskDamaged
from mien.storage.schema import tasks
from mien.tasks.records import Candidate, Event, LogKind, LogLine, Task, canonical, clean
from mien.tasks.status import Status

_JSON = frozenset({"workers", "setup", "output", "metadata"})
_FIELDS = tuple(name for name in Task.__struct_fields__ if name != "short_id")
TASK_COLUMNS = tuple(tasks.c[name] for name in _FIELDS)
CANDIDATE_COLUMNS = tuple(tasks.c[name] for name in Candidate.__struct_fields__)
_events = msgspec.json.Decoder(tuple[Event, ...])


def encode(name: str, value: Any) -> Any:
    """A field's value as stored in its column."""
    if name == "events":
        return msgspec.json.encode(value).decode()
    if name == "input":
        return None if value == NULL else value.text
    if name in _JSON:
        return None if value is None else json_text(value)
    return clean(value) if isinstance(value, str) else value


def json_text(value: Any) -> str:
    """JSON text with the fields in their given order. Raises RequestError for values that JSON cannot represent."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        canonical(value)  # raises RequestError with a message
        raise


def full_row(task: Task, fingerprint: str) -> dict[str, Any]:
    """All columns of a new task but `seq`."""
    row = {name: encode(name, getattr(task, name)) for name in _FIELDS if name != "seq"}
    return row | {"fingerprint": fingerprint}


def changed_row(before: Task, after: Task) -> dict[str, Any]:
    """The columns that differ."""
    return {
        name: encode(name, new)
        for name in _FIELDS
        if (new := getattr(after, name)) is not (old := getattr(before, name)) and (new != old or name == "output")
    }


def task_of(row: Any) -> Task:
    """Raises TaskDamaged for a row that no version of this server writes."""
    try:
        return _task_of(dict(row._mapping))
    except (ValueError, TypeError, LookupError, msgspec.MsgspecError) as error:
        raise TaskDamaged(f"the record of task {row.id} in the server's database is damaged") from error


def _task_of(fields: dict[str, Any]) -> Task:
    for name in _JSON:
        if fields[name] is not None:
            fields[name] = orjson.loads(fields[name])
    fields["input"] = NULL if fields["input"] is None else Encoded(fields["input"])
    fields["workers"] = tuple(fields["workers"])
    fields["status"] = Status(fields["status"])
    fields["events"] = _events.decode(fields["events"])
    return Task(short_id=fields["id"][-8:], **{name: fields[name] for name in _FIELDS})


def chars_of(row: Any) -> int:
    """Total length of the text columns of a task's row, JSON included."""
    return sum(len(value) for value in row if isinstance(value, str))


def candidate_of(row: Any) -> Candidate:
    return Candidate(**row._mapping)


def log_line_of(row: Any) -> LogLine:
    return LogLine(row.number, row.attempt, row.at, LogKind(row.kind), row.text)
