"""Routes of tasks."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Annotated, Any, NotRequired, TypedDict, cast

from fastapi import APIRouter
from msgspec import Meta
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from mien.apps.reference import parse_ref
from mien.errors import (
    AppUnknown,
    Conflict,
    IdempotencyConflict,
    InvalidField,
    MienError,
    NotFound,
    RequestError,
    SessionEnded,
    SessionExpired,
    SessionMismatch,
    SessionNotFound,
    StorageFull,
)
from mien.http.inferencesh import schema
from mien.http.inferencesh.context import RequestContext, TaskRoute, request_context
from mien.http.inferencesh.dialect import Table, statuses_of, wire_status
from mien.http.inferencesh.files import FilesQuery
from mien.http.inferencesh.frames import FULL_LINES, newest
from mien.http.inferencesh.rendering import file_json, log_json, status_json, task_json
from mien.http.inferencesh.stream import TaskStream
from mien.http.inferencesh.submission import Instant, RunParams, read_params, read_submission, read_time
from mien.http.media import EVENT_STREAM, JSON, NDJSON, NDJSON_TYPES, accepts
from mien.http.openapi.operation import Stream, describe
from mien.tasks.records import Task
from mien.tasks.store import Filter

router = APIRouter(route_class=TaskRoute, tags=["Tasks"])
ENVELOPE_BYTES = 1024 * 1024
"""What the body of a task may hold beside its input, and a list of filters at all."""
MAX_LISTED = 200
MAX_STATUSES = 100
MAX_TEXT = 512
"""Characters of a filter."""
PAGE_CHARS = 4 * 1024 * 1024
"""A page of tasks ends early beyond this: 200 tasks of 20 MiB each would be 4 GiB, several times over."""
WAIT_SECONDS = 25.0


class _Filters(TypedDict):
    app: NotRequired[Annotated[str, Meta(description="`[namespace/]name`")]]
    function: NotRequired[str]
    session_id: NotRequired[str]
    cursor: NotRequired[Annotated[str, Meta(description="`next_cursor` of the page before.")]]


class TaskQuery(_Filters):
    """The query of `GET /tasks`."""

    status: NotRequired[Annotated[str, Meta(description="A number or name; several by commas.")]]
    created_after: NotRequired[Annotated[str, Meta(description="RFC 3339, or seconds since 1970.")]]
    created_before: NotRequired[Annotated[str, Meta(description="RFC 3339, or seconds since 1970.")]]
    limit: NotRequired[Annotated[int, Meta(description=f"Most tasks in the page: 1..{MAX_LISTED}, 50 if missing.")]]


class TaskFilters(_Filters):
    """The body of `POST /tasks/list`."""

    status: NotRequired[Annotated[str | int | list[str | int] | None, Meta(description="Numbers or names.")]]
    created_after: NotRequired[Instant]
    created_before: NotRequired[Instant]
    limit: NotRequired[Annotated[int | None, Meta(description=f"Most tasks in the page: 1..{MAX_LISTED}.")]]


class RunQuery(TypedDict):
    """The query of `POST /run`."""

    wait: NotRequired[Annotated[str, Meta(description=f"`true`: wait for the task's end, up to {WAIT_SECONDS:g} s.")]]


class RunHeaders(TypedDict):
    """Headers of `POST /run`."""

    idempotency_key: NotRequired[Annotated[str, Meta(description="As the field of that name.")]]


class LogQuery(TypedDict):
    """The query of `GET /tasks/{task_id}/logs`."""

    after: NotRequired[Annotated[int, Meta(description="Number of the last line that is known already.")]]
    limit: NotRequired[Annotated[int, Meta(description="Most lines: 1..10000, 1000 if missing.")]]


class StreamQuery(TypedDict):
    """The query of `GET /tasks/{task_id}/stream`."""

    after: NotRequired[Annotated[str, Meta(description="A frame's `cursor`: continue after it.")]]


class StreamHeaders(TypedDict):
    """Headers of `GET /tasks/{task_id}/stream`."""

    last_event_id: NotRequired[Annotated[str, Meta(description="As `after`, which it wins over.")]]


FRAMES: Mapping[str, Stream] = {
    EVENT_STREAM: Stream(schema.TaskFrame, "Events, each with a frame in its `data`."),
    NDJSON: Stream(schema.TaskFrame, "Frames, one a line."),
}
SUBMISSION_ERRORS = (
    AppUnknown, SessionNotFound, IdempotencyConflict, SessionMismatch, SessionEnded, SessionExpired, StorageFull,
)  # fmt: skip


@describe({JSON: schema.Task, **FRAMES}, body=RunParams, query=RunQuery, headers=RunHeaders, errors=SUBMISSION_ERRORS)
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


for path, name in (("/run", "run"), ("/apps/run", "run_app")):
    router.add_api_route(path, run, methods=["POST"], name=name, response_model=None)


@router.get("/tasks")
@describe(schema.TaskPage, query=TaskQuery, errors=(RequestError, InvalidField))
async def list_tasks(request: Request) -> Response:
    """Tasks, newest first."""
    return await _listed(request_context(request), cast(TaskQuery, dict(request.query_params)))


@router.post("/tasks/list")
@describe(schema.TaskPage, body=TaskFilters, body_required=False)
async def list_tasks_by_body(request: Request) -> Response:
    """As `GET /tasks`, with the filters in a JSON object."""
    ctx = request_context(request)
    with ExitStack() as admitted:
        filters = await ctx.read_object(ENVELOPE_BYTES, admitted)
    return await _listed(ctx, cast(TaskFilters, filters))


@router.get("/tasks/{task_id}")
@describe(schema.Task, errors=(NotFound,))
async def get_task(request: Request, task_id: str) -> Response:
    """The whole task, with its newest 1000 log lines."""
    ctx = request_context(request)
    task, logs = await ctx.parts.store.get_with_logs(task_id, FULL_LINES, ctx.reach)
    return ctx.respond(_task_json(ctx, task, newest(logs, FULL_LINES)))


@router.delete("/tasks/{task_id}")
@describe(schema.Deleted, errors=(NotFound, Conflict))
async def delete_task(request: Request, task_id: str) -> Response:
    """Remove an ended task with its logs and the files that it made, except those that other tasks were given."""
    ctx = request_context(request)
    await ctx.parts.store.delete(task_id, ctx.reach)
    with suppress(MienError):  # housekeeping retries, and removes what would take too long within a request
        await ctx.parts.files.expire(0.0)
    deleted: schema.Deleted = {"id": task_id, "deleted": True}
    return ctx.respond(deleted)


@router.get("/tasks/{task_id}/status")
@describe(schema.TaskStatus, errors=(NotFound,))
async def task_status(request: Request, task_id: str) -> Response:
    """The status alone."""
    ctx = request_context(request)
    task = await ctx.parts.store.get(task_id, ctx.reach)
    return ctx.respond(status_json(task, ctx.dialect.of(task)))


@router.get("/tasks/{task_id}/logs")
@describe(list[schema.TaskLogLine], query=LogQuery, errors=(NotFound, InvalidField))
async def task_logs(request: Request, task_id: str) -> Response:
    """Log lines with numbers over `after`, at most `limit`."""
    ctx = request_context(request)
    after = _number("after", request.query_params.get("after"), 0, 10**15, 0)
    limit = _number("limit", request.query_params.get("limit"), 1, 10_000, 1000)
    lines = await ctx.parts.store.logs(task_id, after, limit, ctx.reach)
    return ctx.respond([log_json(line, task_id) for line in lines])


@router.get("/tasks/{task_id}/files")
@describe(list[schema.File], query=FilesQuery, errors=(RequestError, NotFound))
async def task_files(request: Request, task_id: str) -> Response:
    """Records of the files that the task made, newest first."""
    ctx = request_context(request)
    await ctx.parts.store.get(task_id, ctx.reach)
    page = await ctx.parts.files.find(task_id=task_id, cursor=request.query_params.get("cursor"), limit=100)
    return ctx.respond([file_json(record, ctx.parts.links, ctx.base) for record in page.files])


@router.post("/tasks/{task_id}/cancel")
@describe(schema.TaskCancelled, errors=(NotFound,))
async def cancel_task(request: Request, task_id: str) -> Response:
    """End the task: at once if it is queued, within the grace period if it runs. A task that has ended stays as it
    is."""
    ctx = request_context(request)
    task = await ctx.parts.scheduler.cancel(task_id, ctx.reach)
    table = ctx.dialect.of(task)
    requested = task.cancel_requested_at is not None
    cancelled: schema.TaskCancelled = {"id": task.id, "status": wire_status(task, table), "cancelled": requested}
    return ctx.respond(cancelled)


@router.get("/tasks/{task_id}/stream")
@describe(FRAMES, query=StreamQuery, headers=StreamHeaders, errors=(RequestError, NotFound))
async def stream_task(request: Request, task_id: str) -> Response:
    """The task as it changes, to its end: an event stream, or NDJSON where that is accepted. `Last-Event-ID` (or
    `?after=` a frame's `cursor`) resumes."""
    ctx = request_context(request)
    after = request.headers.get("last-event-id") or request.query_params.get("after") or None
    return TaskStream(ctx, await ctx.parts.feed.watch(task_id, after, owner=ctx.reach), resumed=after is not None)


# --- helpers


def _task_json(ctx: RequestContext, task: Task, logs: Any = ()) -> schema.Task:
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


async def _listed(ctx: RequestContext, given: TaskQuery | TaskFilters) -> Response:
    table: Table = ctx.dialect.table
    app = _text("app", given.get("app"))
    ref = None if app is None else parse_ref(app, ctx.parts.settings.apps.app_namespace)
    which = Filter(
        statuses=_statuses(given.get("status"), table),
        app=None if ref is None else ref.app,
        function=_text("function", given.get("function")),
        session_id=_text("session_id", given.get("session_id")),
        owner=ctx.reach,
        created_after=_moment("created_after", given.get("created_after")),
        created_before=_moment("created_before", given.get("created_before")),
    )
    limit = _number("limit", given.get("limit"), 1, MAX_LISTED, 50)
    page = await ctx.parts.store.find(
        which, cursor=_text("cursor", given.get("cursor")), limit=limit, max_chars=PAGE_CHARS
    )
    items = [_task_json(ctx, task) for task in page.tasks]
    shown: schema.TaskPage = {"items": items, "next_cursor": page.cursor, "has_next": page.cursor is not None}
    return ctx.respond(shown)


def _statuses(given: Any, table: Table) -> Any:
    if given is None or given == "" or given == []:
        return None
    texts = given if isinstance(given, list) else str(given).split(",", MAX_STATUSES)
    if len(texts) > MAX_STATUSES:
        raise InvalidField(f"status: expected at most {MAX_STATUSES}")
    return statuses_of((str(text) for text in texts), table)


def _moment(name: str, value: Any) -> float | None:
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        value = float(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise InvalidField(f"{name}: expected a time")
    return read_time(name, value)


def _text(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str | int) or len(text := str(value)) > MAX_TEXT:
        raise InvalidField(f"{name}: expected a text of at most {MAX_TEXT} characters")
    return text


def _number(name: str, value: Any, low: int, high: int, default: int) -> int:
    if value is None or value == "":
        return default
    text = str(value)
    if not text.isdecimal() or len(text) > 18 or not low <= int(text) <= high:
        raise InvalidField(f"{name}: expected a whole number in {low}..{high}; got {text[:40]!r}")
    return int(text)


def _accepts_stream(request: Request) -> bool:
    return accepts(request.headers, EVENT_STREAM, *NDJSON_TYPES)
