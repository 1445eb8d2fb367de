"""Routes of sessions: state that an app keeps in one worker between tasks."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mien.http.inferencesh.door import TaskRoute, caller
from mien.http.inferencesh.shapes import session_shape

router = APIRouter(route_class=TaskRoute, tags=["Sessions"])


@router.get("/sessions")
async def list_sessions(request: Request) -> Response:
    """Every session that is open, or was within the last hour."""
    asked = caller(request)
    sessions = asked.parts.sessions
    return asked.answer([session_shape(session, sessions) for session in sessions.all()])


@router.get("/sessions/{session_id}")
async def get_session(request: Request, session_id: str) -> Response:
    """One session; its `status` is pending, active, expired or ended."""
    asked = caller(request)
    return asked.answer(session_shape(asked.parts.sessions.get(session_id), asked.parts.sessions))


@router.delete("/sessions/{session_id}")
async def end_session(request: Request, session_id: str) -> Response:
    """End the session and, once it is idle, its worker."""
    asked = caller(request)
    return asked.answer(session_shape(asked.parts.sessions.end(session_id), asked.parts.sessions))


@router.post("/sessions/{session_id}/keepalive")
async def keep_session(request: Request, session_id: str) -> Response:
    """Begin the idle time anew. 410 when the session is over."""
    asked = caller(request)
    return asked.answer(session_shape(asked.parts.sessions.keep_alive(session_id), asked.parts.sessions))
