"""The course of a stream without any I/O: every cut, every order of failures."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencesh import InferenceConnectionError, InferenceTimeout, StreamError
from inferencesh._follow import Follower
from inferencesh._messages import Response
from inferencesh._options import StreamOptions
from inferencesh._settings import settings_of
from inferencesh._steps import Connect, Disconnect, Emit, Receive, Wait

SETTINGS = settings_of(
    None,
    None,
    timeout=30,
    idle_timeout=60,
    retries=3,
    upload_concurrency=4,
    upload_paths=True,
    upload_base64=False,
    headers=None,
)
EVENTS = [{"id": "t", "status": 7, "output": number} for number in range(5)] + [{"id": "t", "status": 9, "output": 9}]


class World:
    """A server that keeps events, a connection that breaks as planned, a clock."""

    def __init__(self, plan, *, resumes=True, piece=7):
        self.plan, self.resumes, self.piece = list(plan), resumes, piece
        self.now = 0.0
        self.waits = []
        self.connections = 0

    def clock(self):
        return self.now

    def run(self, follower):
        """The updates; raises what the follower raises."""
        updates, steps, answer = [], follower.steps(), None
        while True:
            try:
                step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
            except StopIteration as end:
                return updates if end.value == updates[-1] else [end.value]
            answer = self.perform(step, updates)

    def perform(self, step, updates):
        if isinstance(step, Emit):
            updates.append(step.update)
        elif isinstance(step, Wait):
            self.waits.append(step.seconds)
            self.now += step.seconds
        elif isinstance(step, Connect):
            self.connections += 1
            return self.connect(step.request.headers.get("Last-Event-ID"))
        elif isinstance(step, Receive):
            return self.receive(step)
        else:
            assert isinstance(step, Disconnect)
        return None

    def connect(self, last):
        self.cut = self.plan.pop(0) if self.plan else None
        if self.cut == "refused":
            return InferenceConnectionError("refused", sent=False)
        if isinstance(self.cut, str):
            return Response(int(self.cut), {}, b"{}")
        start = int(last) + 1 if last is not None and self.resumes else 0
        self.data = b"".join(
            b"id: %d\ndata: %s\n\n" % (number, json.dumps(EVENTS[number]).encode())
            for number in range(start, len(EVENTS))
        )
        self.sent = 0
        return Response(200, {"content-type": "text/event-stream"})

    def receive(self, step):
        end = min(len(self.data), self.sent + self.piece)
        if self.cut is not None and end >= self.cut:
            if self.sent >= self.cut:
                return InferenceConnectionError("reset")
            end = self.cut
        found, self.sent = self.data[self.sent : end], end
        if not found and self.data == b"silence":
            self.now += step.seconds
            return InferenceTimeout("silence")
        return found


def follower(world, **options):
    return Follower(SETTINGS, "t", StreamOptions(**options), clock=world.clock)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_cut_after_any_byte(resumes):
    for cut in range(400):
        world = World([cut], resumes=resumes)
        assert world.run(follower(world)) == EVENTS


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 300) | st.sampled_from(["refused", "500", "502", "503", "429"]), max_size=8),
    st.booleans(),
    st.integers(1, 400),
)
def test_any_series_of_failures(plan, resumes, piece):
    world = World(plan, resumes=resumes, piece=piece)
    assert world.run(follower(world, max_reconnects=8)) == EVENTS


def test_pauses_double_up_to_a_limit_and_begin_anew_with_progress():
    one = len(b'id: 0\ndata: {"id": "t", "status": 7, "output": 0}\n\n')
    world = World(["500"] * 8 + [one] + ["500"] * 3)
    world.run(follower(world, max_reconnects=9, reconnect_delay_ms=1000))

    bounds = [1, 2, 4, 8, 15, 15, 15, 15, 1, 2, 4, 8]
    assert all(bound <= wait <= bound * 1.25 for wait, bound in zip(world.waits, bounds, strict=True))


def test_patience_ends():
    world = World([0] * 20)
    with pytest.raises(StreamError, match=r"4 connections brought nothing new"):
        world.run(follower(world, max_reconnects=3))
    assert world.connections == 4


def test_a_time_limit_holds_over_connections():
    world = World(["refused"] * 99)
    with pytest.raises(InferenceTimeout, match="has not ended within 5 s"):
        world.run(follower(world, max_reconnects=99, timeout=5, reconnect_delay_ms=900))
    assert world.now == pytest.approx(5)


def test_what_was_known_at_the_start_is_no_update_twice():
    world = World([])
    first = EVENTS[0]
    assert world.run(Follower(SETTINGS, "t", StreamOptions(), first=first, clock=world.clock)) == EVENTS


def test_a_task_that_has_ended_needs_no_connection():
    world = World([])
    done = Follower(SETTINGS, "t", StreamOptions(), first=EVENTS[-1], clock=world.clock)

    assert world.run(done) == [EVENTS[-1]]
    assert done.result == EVENTS[-1]
    assert world.connections == 0
