"""Sessions: state that an app keeps in one worker between tasks. A session lives as long as its worker."""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from mien.errors import SessionEnded, SessionExpired, SessionMismatch, SessionNotFound
from mien.ids import ulid
from mien.tasks.status import Status
from mien.tasks.store import Change

State = Literal["pending", "active", "expired", "ended"]
KEPT_SECONDS = 3600.0
"""How long a session is remembered after its end, so that callers are told how it ended."""


class SessionWorkers(Protocol):
    """The session operations of a worker pool."""

    def has_session(self, session_id: str) -> bool: ...

    def end_session(self, session_id: str) -> bool: ...

    def keep_session(self, session_id: str) -> bool: ...


class Session(msgspec.Struct, kw_only=True):
    """One session; times in seconds since 1970."""

    id: str
    app: str
    app_version: str
    variant: str
    setup_key: str
    owner: str
    created_at: float
    used_at: float
    timeout: float
    """Seconds of idleness after which it expires."""
    setup: Any = None
    calls: int = 0
    started: bool = False
    """Whether one of its tasks has started."""
    has_state: bool = False
    """Whether one has run to its end, so that state would be lost with the worker."""
    over: State | None = None
    over_at: float = 0.0


class Sessions:
    """The sessions of one server; in memory, like their workers' state.

    With an `owner`, the sessions of others do not exist.
    """

    def __init__(self, workers: SessionWorkers, *, clock: Callable[[], float] = time.time) -> None:
        self._workers = workers
        self._clock = clock
        self._known: dict[str, Session] = {}

    def changed(self, change: Change) -> None:
        """Listener of the task store."""
        session = self._known.get(change.task.session_id or "")
        if session is None:
            return
        session.used_at = self._clock()
        if any(event.status is Status.RUNNING for event in change.task.events):
            session.started = True
            session.has_state = session.has_state or change.task.terminal

    def open(
        self, *, app: str, app_version: str, variant: str, setup_key: str, owner: str, timeout: float, key: str | None
    ) -> Session:
        """A new session; with an idempotency key, the one that was opened with it before."""
        now = self._clock()
        self._prune(now)
        name = ulid(now) if key is None else hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest()[:26]
        if (known := self._known.get(f"sess_{name}")) is not None:
            return known
        session = Session(
            id=f"sess_{name}",
            app=app,
            app_version=app_version,
            variant=variant,
            setup_key=setup_key,
            owner=owner,
            created_at=now,
            used_at=now,
            timeout=timeout,
        )
        self._known[session.id] = session
        return session

    def join(
        self, session_id: str, *, app: str, variant: str | None, setup_key: str | None, owner: str | None = None
    ) -> Session:
        """The session, for one more task to join.

        Raises SessionNotFound, SessionEnded, SessionExpired, SessionMismatch.
        """
        session = self.check(session_id, owner)
        for name, given, has in (
            ("app", app, session.app),
            ("variant", variant, session.variant),
            ("setup", setup_key, session.setup_key),
        ):
            if given is not None and given != has:
                shown = f": it has {has}" if name != "setup" else ""
                raise SessionMismatch(f"the session {session_id} was opened with another {name}{shown}")
        return session

    def check(self, session_id: str, owner: str | None = None) -> Session:
        """The session. Raises SessionNotFound, SessionEnded, SessionExpired."""
        session = self.get(session_id, owner)
        state = self.state(session)
        if state == "ended":
            raise SessionEnded(f"the session {session_id} was ended")
        if state == "expired":
            raise SessionExpired(f"the session {session_id} is over: its worker was idle for too long, or was lost")
        return session

    def get(self, session_id: str, owner: str | None = None) -> Session:
        """The session, over or not. Raises SessionNotFound."""
        session = self._known.get(session_id)
        if session is None or owner not in (None, session.owner):
            raise SessionNotFound(f"there is no session {session_id[:64]!r}; sessions end with the server")
        return session

    def all(self, owner: str | None = None) -> list[Session]:
        """All sessions that are remembered, newest first."""
        self._prune(self._clock())
        found = [session for session in self._known.values() if owner in (None, session.owner)]
        return sorted(found, key=lambda session: -session.created_at)

    def state(self, session: Session) -> State:
        """The session's state.

        A session whose first run crashed its worker has lost nothing yet: it is pending again, and the next attempt of
        that run starts it anew.
        """
        alive = self._workers.has_session(session.id)
        if session.over is None and session.has_state and not alive:
            self._end(session, "expired")
        if session.over is not None:
            return session.over
        return "active" if session.started and alive else "pending"

    def keep_alive(self, session_id: str, owner: str | None = None) -> Session:
        """Restart the idle timeout."""
        session = self.check(session_id, owner)
        session.used_at = self._clock()
        self._workers.keep_session(session_id)
        return session

    def end(self, session_id: str, owner: str | None = None) -> Session:
        """End the session and its worker, after the task that runs there, if any. Idempotent."""
        session = self.get(session_id, owner)
        if self.state(session) not in ("ended", "expired"):
            self._end(session, "ended")
            self._workers.end_session(session_id)
        return session

    def _end(self, session: Session, state: State) -> None:
        session.over, session.over_at = state, self._clock()

    def _prune(self, now: float) -> None:
        for session in list(self._known.values()):
            self.state(session)
            never = session.over is None and not session.has_state and now - session.used_at > KEPT_SECONDS
            if never or (session.over is not None and now - session.over_at > KEPT_SECONDS):
                del self._known[session.id]
