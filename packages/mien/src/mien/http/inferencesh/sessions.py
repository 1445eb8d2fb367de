"""Routes of sessions: an app's state, kept in one worker between tasks."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mien.errors import SessionEnded, SessionExpired, SessionNotFound
from mien.http.inferencesh import schema
from mien.http.inferencesh.context import TaskRoute, request_context
from mien.http.inferencesh.rendering import session_json
from mien.http.openapi.operation import describe

router = APIRouter(route_class=TaskRoute, tags=["Sessions"])


@router.get("/sessions")
@describe(list[schema.Session])
async def list_sessions(request: Request) -> Response:
    """Every session that is open, or was within the last hour."""
    ctx = request_context(request)
    sessions = ctx.parts.sessions
    return ctx.respond([session_json(session, sessions) for session in sessions.all(ctx.reach)])


@router.get("/sessions/{session_id}")
@describe(schema.Session, errors=(SessionNotFound,))
async def get_session(request: Request, session_id: str) -> Response:
    """One session; its `status` is pending, active, expired or ended."""
    ctx = request_context(request)
    return ctx.respond(session_json(ctx.parts.sessions.get(session_id, ctx.reach), ctx.parts.sessions))


@router.delete("/sessions/{session_id}")
@describe(schema.Session, errors=(SessionNotFound,))
async def end_session(request: Request, session_id: str) -> Response:
    """End the session and, once it is idle, its worker."""
    ctx = request_context(request)
    return ctx.respond(session_json(ctx.parts.sessions.end(session_id, ctx.reach), ctx.parts.sessions))


@router.post("/sessions/{session_id}/keepalive")
@describe(schema.Session, errors=(SessionNotFound, SessionEnded, SessionExpired))
async def keep_session(request: Request, session_id: str) -> Response:
    """Begin the idle time anew. 410 when the session is over."""
    ctx = request_context(request)
    return ctx.respond(session_json(ctx.parts.sessions.keep_alive(session_id, ctx.reach), ctx.parts.sessions))
