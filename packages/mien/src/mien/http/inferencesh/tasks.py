"""Routes of tasks."""

import asyncio
from contextlib import ExitStack, suppress
from typing import Any

from fastapi import APIRouter
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from mien.apps.reference import parse_ref
from mien.errors import InvalidField, MienError
from mien.http.inferencesh.context import RequestContext, TaskRoute, request_context
from mien.http.inferencesh.dialect import Table, statuses_of, wire_status
from mien.http.inferencesh.frames import FULL_LINES, newest
from mien.http.inferencesh.rendering import file_json, log_json, status_json, task_json
from mien.http.inferencesh.stream import TaskStream
from mien.http.inferencesh.submission import RUN_BODY, read_params, read_submission, read_time
from mien.http.media import EVENT_STREAM, NDJSON_TYPES, accepts
from mien.http.openapi import TEXT, json_body
from mien.tasks.machine import wall_clock
from mien.tasks.records import Task
from mien.tasks.store import Filter

router = APIRouter(route_class=TaskRoute, tags=["Tasks"])
ENVELOPE_BYTES = 1024 * 1024
"""What the body of a task may hold beside its input, and a list of filters at all."""
MAX_LISTED = 200
PAGE_CHARS = 4 * 1024 * 1024
"""A page of tasks ends early beyond this: 200 tasks of 20 MiB each would be 4 GiB, several times over."""
WAIT_SECONDS = 25.0


LIST_BODY = json_body(
    {
        "type": "object",
        "properties": {
            "status": {},
            "app": TEXT,
            "function": TEXT,
            "session_id": TEXT,
            "created_after": {},
            "created_before": {},
            "cursor": TEXT,
            "limit": {"type": "integer"},
        },
    }
)


async def run(request: Request) -> Response:
    """Run an app: the task, on disk. With `?wait=true` it waits for its end, up to 25 s; with `stream` in the body and
    an Accept of a stream, the answer is the task's stream."""
    ctx = request_context(request)
    with ExitStack() as admitted:
        body = await ctx.read_object(ctx.parts.settings.tasks.task_input_bytes + ENVELOPE_BYTES, admitted)
        submission = await read_submission(read_params(body), ctx)
        task, created = await ctx.parts.scheduler.submit(replace(submission, dialect=ctx.dialect.remembered))
    if body.get("stream") is True and _accepts_stream(request):
        return TaskStream(ctx, await ctx.parts.feed.watch(task.id), resumed=False)
    if request.query_params.get("wait", "").lower() in ("1", "true", "yes"):
        task = await _ended(ctx, task)
    headers = {} if created else {"Idempotent-Replayed": "true"}
    return ctx.respond(_task_json(ctx, task), headers=headers)


for path in ("/run", "/apps/run"):
    router.add_api_route(path, run, methods=["POST"], openapi_extra=RUN_BODY, response_model=None)


@router.get("/tasks")
async def list_tasks(request: Request) -> Response:
    """Tasks, newest first: `status` (number or name, several by commas), `app`, `function`, `session_id`,
    `created_after`, `created_before`, `cursor`, `limit`."""
    return await _listed(request_context(request), dict(request.query_params))


@router.post("/tasks/list", openapi_extra=LIST_BODY)
async def list_tasks_by_body(request: Request) -> Response:
    """As `GET /tasks`, with the filters in a JSON object."""
    ctx = request_context(request)
    with ExitStack() as admitted:
        filters = await ctx.read_object(ENVELOPE_BYTES, admitted)
    return await _listed(ctx, filters)


@router.get("/tasks/{task_id}")
async def get_task(request: Request, task_id: str) -> Response:
    """The whole task, with its newest 1000 log lines."""
    ctx = request_context(request)
    task = await ctx.parts.store.get(task_id, ctx.reach)
    logs = await ctx.parts.store.logs(task_id, max(0, task.log_count - FULL_LINES), FULL_LINES)
    return ctx.respond(_task_json(ctx, task, newest(logs, FULL_LINES)))


@router.delete("/tasks/{task_id}")
async def delete_task(request: Request, task_id: str) -> Response:
    """Remove an ended task with its logs and the files that it made, except those that other tasks were given."""
    ctx = request_context(request)
    await ctx.parts.store.delete(task_id, ctx.reach)
    with suppress(MienError):  # housekeeping retries, and removes what would take too long within a request
        await ctx.parts.files.expire(wall_clock())
    return ctx.respond({"id": task_id, "deleted": True})


@router.get("/tasks/{task_id}/status")
async def task_status(request: Request, task_id: str) -> Response:
    """The status alone."""
    ctx = request_context(request)
    task = await ctx.parts.store.get(task_id, ctx.reach)
    return ctx.respond(status_json(task, ctx.dialect.of(task)))


@router.get("/tasks/{task_id}/logs")
async def task_logs(request: Request, task_id: str) -> Response:
    """Log lines with numbers over `after`, at most `limit`."""
    ctx = request_context(request)
    after = _number("after", request.query_params.get("after"), 0, 10**15, 0)
    limit = _number("limit", request.query_params.get("limit"), 1, 10_000, 1000)
    lines = await ctx.parts.store.logs(task_id, after, limit, ctx.reach)
    return ctx.respond([log_json(line, task_id) for line in lines])


@router.get("/tasks/{task_id}/files")
async def task_files(request: Request, task_id: str) -> Response:
    """Records of the files that the task made, newest first."""
    ctx = request_context(request)
    await ctx.parts.store.get(task_id, ctx.reach)
    page = await ctx.parts.files.find(task_id=task_id, cursor=request.query_params.get("cursor"), limit=100)
    return ctx.respond([file_json(record, ctx.parts.links, ctx.base) for record in page.files])


@router.post("/tasks/{task_id}/cancel")
async def cancel_task(request: Request, task_id: str) -> Response:
    """End the task: at once if it is queued, within the grace period if it runs. A task that has ended stays as it
    is."""
    ctx = request_context(request)
    task = await ctx.parts.scheduler.cancel(task_id, ctx.reach)
    table = ctx.dialect.of(task)
    cancelled = task.cancel_requested_at is not None
    return ctx.respond({"id": task.id, "status": wire_status(task, table), "cancelled": cancelled})


@router.get("/tasks/{task_id}/stream")
async def stream_task(request: Request, task_id: str) -> Response:
    """The task as it changes, to its end: an event stream, or NDJSON where that is accepted. `Last-Event-ID` (or
    `?after=` a frame's `cursor`) resumes."""
    ctx = request_context(request)
    after = request.headers.get("last-event-id") or request.query_params.get("after") or None
    return TaskStream(ctx, await ctx.parts.feed.watch(task_id, after, owner=ctx.reach), resumed=after is not None)


# --- helpers


def _task_json(ctx: RequestContext, task: Task, logs: Any = ()) -> dict[str, Any]:
    return task_json(task, ctx.dialect.of(task), ctx.parts.links, ctx.base, logs)


async def _ended(ctx: RequestContext, task: Task) -> Task:
    """The task once it has ended, or as it is after WAIT_SECONDS."""
    with await ctx.parts.feed.watch(task.id) as watch:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                async for update in watch:
                    task = update.task
        except TimeoutError:
            pass
        return watch.task


async def _listed(ctx: RequestContext, given: dict[str, Any]) -> Response:
    table: Table = ctx.dialect.table
    app = given.get("app")
    ref = None if not app else parse_ref(str(app), ctx.parts.settings.apps.app_namespace)
    which = Filter(
        statuses=_statuses(given.get("status"), table),
        app=None if ref is None else ref.app,
        function=_text(given.get("function")),
        session_id=_text(given.get("session_id")),
        owner=ctx.reach,
        created_after=_moment("created_after", given),
        created_before=_moment("created_before", given),
    )
    limit = _number("limit", given.get("limit"), 1, MAX_LISTED, 50)
    page = await ctx.parts.store.find(which, cursor=_text(given.get("cursor")), limit=limit, max_chars=PAGE_CHARS)
    items = [_task_json(ctx, task) for task in page.tasks]
    return ctx.respond({"items": items, "next_cursor": page.cursor, "has_next": page.cursor is not None})


def _statuses(given: Any, table: Table) -> Any:
    if given is None or given == "" or given == []:
        return None
    texts = given if isinstance(given, list) else str(given).split(",")
    return statuses_of((str(text) for text in texts), table)


def _moment(name: str, given: dict[str, Any]) -> float | None:
    value = given.get(name)
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        value = float(value)
    if value is not None and not isinstance(value, str | int | float):
        raise InvalidField(f"{name}: expected a time")
    return read_time(name, value)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _number(name: str, value: Any, low: int, high: int, default: int) -> int:
    if value is None or value == "":
        return default
    text = str(value)
    if not text.isdecimal() or len(text) > 18 or not low <= int(text) <= high:
        raise InvalidField(f"{name}: expected a whole number in {low}..{high}; got {text[:40]!r}")
    return int(text)


def _accepts_stream(request: Request) -> bool:
    return accepts(request.headers, EVENT_STREAM, *NDJSON_TYPES)
