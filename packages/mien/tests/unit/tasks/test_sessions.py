"""The life of sessions, as their callers see it."""

from typing import Any

import pytest
from msgspec.structs import replace

from mien.errors import SessionEnded, SessionExpired, SessionMismatch, SessionNotFound
from mien.tasks.machine import accept
from mien.tasks.records import Event, Submission
from mien.tasks.sessions import KEPT_SECONDS, Session, Sessions
from mien.tasks.status import Status
from mien.tasks.store import Change


class Workers:
    """Which sessions have a worker."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.kept: list[str] = []

    def has_session(self, session_id: str) -> bool:
        return session_id in self.up

    def end_session(self, session_id: str) -> bool:
        found = session_id in self.up
        self.up.discard(session_id)
        return found

    def keep_session(self, session_id: str) -> bool:
        self.kept.append(session_id)
        return session_id in self.up


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def sessions(workers: Workers, clock: Any) -> Sessions:
    return Sessions(workers, clock=clock)


def opened(sessions: Sessions, **fields: Any) -> Session:
    given: dict[str, Any] = {
        "app": "a/b", "app_version": "v1", "variant": "default", "setup_key": "", "owner": "", "timeout": 60.0,
        "key": None, **fields,
    }  # fmt: skip
    return sessions.open(**given)


def runs(sessions: Sessions, workers: Workers, session: Session, clock: Any, *, to: Status = Status.COMPLETED) -> None:
    """A task of the session runs, and comes to the status `to`."""
    workers.up.add(session.id)
    task = accept(Submission(app="a/b", session_id=session.id), seq=1, retries=0, now=clock())
    events = (*task.events, Event(Status.RUNNING, clock(), 1))
    sessions.changed(Change(replace(task, status=Status.RUNNING, events=events)))
    sessions.changed(Change(replace(task, status=to, events=(*events, Event(to, clock(), 1)))))


def test_from_pending_over_active_to_ended(sessions: Sessions, workers: Workers, clock: Any) -> None:
    session = opened(sessions)
    assert sessions.state(session) == "pending"
    runs(sessions, workers, session, clock)
    assert sessions.state(session) == "active"
    sessions.end(session.id)
    assert sessions.state(session) == "ended"
    assert workers.up == set()
    with pytest.raises(SessionEnded):
        sessions.check(session.id)
    assert sessions.end(session.id) is session, "ending it again is fine"


def test_a_session_expires_with_its_worker_and_not_before_it_had_one(
    sessions: Sessions, workers: Workers, clock: Any
) -> None:
    session = opened(sessions)
    assert sessions.check(session.id) is session
    runs(sessions, workers, session, clock)
    workers.up.clear()
    with pytest.raises(SessionExpired):
        sessions.check(session.id)


def test_a_session_that_lost_its_first_run_begins_anew(sessions: Sessions, workers: Workers, clock: Any) -> None:
    session = opened(sessions)
    runs(sessions, workers, session, clock, to=Status.QUEUED)
    workers.up.clear()
    assert sessions.state(session) == "pending"
    assert sessions.check(session.id) is session
    runs(sessions, workers, session, clock)
    assert sessions.state(session) == "active"


def test_the_same_key_of_the_same_owner_opens_one_session(sessions: Sessions) -> None:
    first = opened(sessions, key="k", owner="o")
    assert opened(sessions, key="k", owner="o") is first
    assert opened(sessions, key="k", owner="p").id != first.id
    assert opened(sessions).id != opened(sessions).id


@pytest.mark.parametrize("other", [{"app": "a/c"}, {"variant": "big"}, {"setup_key": "s"}])
def test_a_task_of_another_kind_cannot_join(sessions: Sessions, other: dict[str, str]) -> None:
    session = opened(sessions)
    given: dict[str, Any] = {"app": "a/b", "variant": None, "setup_key": None}
    assert sessions.join(session.id, **given) is session
    with pytest.raises(SessionMismatch, match=next(iter(other)).removesuffix("_key")):
        sessions.join(session.id, **given | other)


def test_what_is_over_is_remembered_for_a_while(sessions: Sessions, clock: Any) -> None:
    session = opened(sessions)
    sessions.end(session.id)
    clock.now += KEPT_SECONDS
    assert sessions.all() == [session]
    clock.now += 1
    assert sessions.all() == []
    with pytest.raises(SessionNotFound):
        sessions.get(session.id)


def test_keeping_a_session_alive_begins_its_idle_time_anew(sessions: Sessions, workers: Workers, clock: Any) -> None:
    session = opened(sessions)
    clock.now += 30
    assert sessions.keep_alive(session.id).used_at == clock()
    assert workers.kept == [session.id]
