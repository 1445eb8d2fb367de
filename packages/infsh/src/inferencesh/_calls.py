"""All requests of the API, and the parsing of their responses."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from inferencesh._messages import JSON, Call, Request, Response, encode
from inferencesh._responses import parse_data, parse_map, parse_nothing, parse_task
from inferencesh._settings import Settings
from inferencesh._status import Task, TaskStatus, in_our_numbers
from inferencesh.errors import InferenceError


def run(settings: Settings, body: Mapping[str, Any], key: str) -> Call[Task]:
    """A task's submission. The server accepts an idempotency key once, however often it is sent."""
    headers = {**settings.headers, "Content-Type": JSON, "Accept": JSON, "Idempotency-Key": key}
    return Call(Request("POST", settings.url("/run"), headers, encode(body)), parse_task)


def get_task(settings: Settings, task_id: str) -> Call[Task]:
    return Call(_plain(settings, "GET", f"/tasks/{part(task_id)}"), parse_task)


def cancel(settings: Settings, task_id: str) -> Call[None]:
    return Call(_plain(settings, "POST", f"/tasks/{part(task_id)}/cancel"), parse_nothing)


def stream(settings: Settings, task_id: str, last_id: str | None) -> Request:
    """The request for a task's stream, resuming after the frame `last_id`."""
    headers = {**settings.headers, "Accept": "text/event-stream", "Cache-Control": "no-cache"}
    headers["Accept-Encoding"] = "identity"
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    return Request("GET", settings.url(f"/tasks/{part(task_id)}/stream"), headers)


class Page(list[dict[str, Any]]):
    """Records, and where the list continues."""

    next_cursor: str | None = None
    """Pass it as `cursor` to get the next page; None at the end."""


def list_tasks(settings: Settings, filters: Mapping[str, Any]) -> Call[Page]:
    """Omits filters that are None. Statuses are sent by name: their numbers differ between servers."""
    given = dict(filters)
    if given.get("status") is not None:
        wanted = given["status"] if isinstance(given["status"], list | tuple | set) else [given["status"]]
        given["status"] = ",".join(TaskStatus(one).name.lower() if isinstance(one, int) else str(one) for one in wanted)
    return records(settings, "tasks", given, in_our_numbers)


def task_part(settings: Settings, task_id: str, name: str) -> Call[dict[str, Any]]:
    return Call(_plain(settings, "GET", f"/tasks/{part(task_id)}/{name}"), parse_map)


def task_logs(settings: Settings, task_id: str, after: int, limit: int) -> Call[Page]:
    """Lines with ids above `after`."""
    return records(settings, f"tasks/{part(task_id)}/logs", {"after": after, "limit": limit})


def records(
    settings: Settings,
    path: str,
    query: Mapping[str, Any] | None = None,
    read: Callable[[Any], Any] = lambda record: record,
) -> Call[Page]:
    """A route that returns a list, bare or as a field of a map; each record is passed through `read`."""
    given = {name: str(value) for name, value in (query or {}).items() if value is not None}

    def parse(response: Response) -> Page:
        data = parse_data(response)
        lists = [data] if not isinstance(data, dict) else [data[key] for key in (path, "items") if key in data]
        if not lists or not isinstance(lists[0], list):
            raise InferenceError(f"/{path} returned {type(data).__name__}; expected a list")
        page = Page(read(record) for record in lists[0])
        page.next_cursor = data.get("next_cursor") if isinstance(data, dict) else None
        return page

    return Call(_plain(settings, "GET", f"/{path}" + (f"?{urlencode(given)}" if given else "")), parse)


def record(settings: Settings, kind: str, name: str) -> Call[dict[str, Any]]:
    return Call(_plain(settings, "GET", f"/{kind}/{part(name)}"), parse_map)


def app(settings: Settings, reference: str) -> Call[dict[str, Any]]:
    """References contain slashes."""
    return Call(_plain(settings, "GET", "/apps/" + "/".join(part(piece) for piece in reference.split("/"))), parse_map)


def keepalive(settings: Settings, session_id: str) -> Call[dict[str, Any]]:
    return Call(_plain(settings, "POST", f"/sessions/{part(session_id)}/keepalive"), parse_map)


def delete(settings: Settings, kind: str, name: str) -> Call[None]:
    """Not retried: the second response would be a 404."""
    return Call(_plain(settings, "DELETE", f"/{kind}/{part(name)}"), parse_nothing, safe=False)


def part(text: str) -> str:
    """A segment of a path. Raises ValueError for anything else."""
    if not isinstance(text, str) or not text or text in (".", ".."):
        raise ValueError(f"{text!r} is not an id")
    return quote(text, safe="@:")


def _plain(settings: Settings, method: str, path: str) -> Request:
    return Request(method, settings.url(path), {**settings.headers, "Accept": JSON})
