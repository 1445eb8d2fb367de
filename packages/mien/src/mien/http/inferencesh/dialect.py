"""The wire dialect of a client. Over time, clients of this API changed status numbers, envelopes and paths; the dialect
follows from what a request says about its client's version.

Table A counts 1–11 as the first clients do. Table B has CANCELLING at 8, so UPLOADING … CANCELLED are 9–12.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from mien.errors import InvalidField
from mien.http.media import NDJSON_TYPES, accepts
from mien.tasks.records import Task
from mien.tasks.status import Status

Table = Literal["A", "B"]
PREFIXES: Mapping[str, Table] = MappingProxyType({"/compat/0.5": "A", "/compat/latest": "B"})
"""Path prefixes that determine the table, for clients that cannot be told apart otherwise."""

OUR_CLIENT = "mien-inferencesh/"
CANCELLING = 8
_B = MappingProxyType({status: int(status) + (status >= Status.UPLOADING) for status in Status})
_AGENT = re.compile(r"inference-sdk-py/(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
_FIRST_WITH_B = (0, 6, 1)
_FIRST_WITH_PROBLEMS = (0, 7, 8)
Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to respond to one request."""

    table: Table
    settled: bool
    """Whether the request itself determines the table; otherwise the one stored with a task takes precedence."""
    bare: bool = False
    """The payload alone, without the envelope."""
    problems: bool = False
    """Errors as `application/problem+json`."""
    known: bool = False
    """Whether the table is more than a default, so that a task created by the request stores it."""

    @property
    def remembered(self) -> str:
        """The table that a task created by the request stores; "" if it is not known."""
        return self.table if self.known else ""

    def of(self, task: Task) -> Table:
        """The table in which this task's statuses are sent."""
        return task.dialect if not self.settled and task.dialect in ("A", "B") else self.table  # type: ignore[return-value]


def read_dialect(headers: Mapping[str, str], path: str, forced: Table | None, default: Table) -> Dialect:
    """The dialect of a request. `headers` has lower-case names, `path` is without prefix; `forced` is the prefix's
    table."""
    agent = headers.get("user-agent", "")
    version = client_version(agent)
    bare = headers.get("x-api-version", "").strip() == "2"
    problems = bare or (version is not None and version >= _FIRST_WITH_PROBLEMS)
    table: Table | None = forced
    if table is None and version is not None:
        table = "B" if version >= _FIRST_WITH_B else "A"
    if table is None and agent.startswith(OUR_CLIENT):
        table = "A"
    if table is not None:
        return Dialect(table, settled=True, bare=bare, problems=problems, known=True)
    if path == "/run":
        return Dialect("A", settled=False, bare=bare, problems=problems, known=True)
    return Dialect(
        "B" if bare or accepts(headers, *NDJSON_TYPES) else default, settled=False, bare=bare, problems=problems
    )


def client_version(agent: str) -> Version | None:
    """The version in the User-Agent of newer clients."""
    match = _AGENT.search(agent)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))


def wire_number(status: Status, table: Table) -> int:
    """The status on the wire."""
    return int(status) if table == "A" else _B[status]


def wire_status(task: Task, table: Table) -> int:
    """The task's status on the wire: in table B a task that was asked to end is CANCELLING."""
    if table == "B" and task.cancel_requested_at is not None and not task.terminal:
        return CANCELLING
    return wire_number(task.status, table)


def statuses_of(texts: Iterable[str], table: Table) -> tuple[Status, ...]:
    """Statuses by number or name, as filters give them, each once. Raises InvalidField."""
    by_number = {str(wire_number(status, table)): status for status in Status}
    by_name = {status.name: status for status in Status} | {"DISPATCHED": Status.SCHEDULED}
    found: dict[Status, None] = {}
    for text in texts:
        status = by_number.get(text.strip()) or by_name.get(text.strip().upper())
        if status is None:
            known = ", ".join(f"{wire_number(status, table)} {status.name.lower()}" for status in Status)
            raise InvalidField(f"status: {text[:40]!r} is unknown; expected one of: {known}")
        found[status] = None
    return tuple(found)


class CompatPaths:
    """ASGI middleware: strips the compatibility prefix from the path and collapses repeated slashes, which clients
    produce from a base URL that ends in one."""

    def __init__(self, app: object) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http":
            table, path = split_prefix(str(scope["path"]))
            if path != scope["path"]:
                scope["path"] = path
                scope["raw_path"] = quote(path).encode()
            if table is not None:
                scope.setdefault("state", {})["status_table"] = table  # type: ignore[index]
        await self._app(scope, receive, send)  # type: ignore[operator]


_SLASHES = re.compile("/{2,}")


def split_prefix(path: str) -> tuple[Table | None, str]:
    """The prefix's table and the path without it, single slashes only."""
    path = _SLASHES.sub("/", path)
    for prefix, table in PREFIXES.items():
        if path.startswith(f"{prefix}/"):
            return table, path.removeprefix(prefix)
    return None, path
