"""Streams over real connections that break in every way: nothing is lost, nothing comes twice."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferencesh import (
    APIError,
    Inference,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeout,
    StreamError,
    TaskCancelled,
    TaskFailed,
    TaskStatus,
)

FAST = {"reconnect_delay_ms": 1}
COURSE = [
    ("1", {"id": "t1", "status": 1, "output": None, "logs": []}),
    ("2", {"id": "t1", "status": 7, "output": None, "logs": ["ä\u2028"]}),
    ("3", {"data": {"progress": 0.5, "output": {"n": 1}}, "fields": ["progress", "output"]}),
    ("4", {"id": "t1", "status": 9, "output": {"n": 2}, "logs": ["a", "b"]}),
]
STATES = [
    COURSE[0][1],
    COURSE[1][1],
    COURSE[1][1] | COURSE[2][1]["data"],
    COURSE[1][1] | COURSE[2][1]["data"] | COURSE[3][1],
]


@pytest.fixture
def course(server):
    server.events = COURSE
    return server


def test_every_state_arrives_once_and_in_order(client, course):
    with client.stream_task("t1") as stream:
        updates = list(stream)

    assert updates == STATES
    assert stream.result == STATES[-1]
    assert stream.error is None
    assert len(course.seen) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.full
def test_a_cut_after_any_byte_loses_and_repeats_nothing(client, course, fault, how, resumes):
    """Every byte for one client, samples for the rest: without connections, `test_inferencesh_follow` has them all."""
    course.resumes = resumes
    whole = len(course._encoded(200, course.media_type, course.stream(None), {}))

    every = 1 if resumes and how == "close" and isinstance(client, Inference) else 7
    for position in range(0, whole, every):
        course.faults = [fault(after=position, how=how)]
        assert list(client.stream_task("t1", **FAST)) == STATES, f"cut after {position} bytes"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_series_of_faults_loses_and_repeats_nothing(client, server, fault, data):
    states = data.draw(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers() | st.text()), max_size=6))
    values = [{"id": "t1", "status": 7, "n": number, **state} for number, state in enumerate(states)]
    server.events = [(str(number), value) for number, value in enumerate([*values, {"id": "t1", "status": 9}])]
    server.resumes = data.draw(st.booleans())
    server.faults = data.draw(
        st.lists(
            st.builds(fault, after=st.integers(0, 900), how=st.sampled_from(["close", "reset"]))
            | st.builds(fault, status=st.sampled_from([500, 502, 503, 504, 429])),
            max_size=6,
        )
    )
    expected, task = [], {}
    for _, value in server.events:
        task = task | value
        expected.append(task)
    expected[-1] = {**expected[-1], "output": "whole"}  # asked for, as the stream did not say it

    assert list(client.stream_task("t1", **FAST)) == expected


def test_a_stream_without_ids_goes_on_with_a_snapshot(client, course, fault):
    course.events = [(None, value) for _, value in [COURSE[1], COURSE[3]]]
    course.media_type = "application/x-ndjson"
    course.faults = [fault(after=len(course._encoded(200, course.media_type, course.stream(None), {})) - 20)]

    assert [update["status"] for update in client.stream_task("t1", **FAST)] == [7, 9]
    assert len(course.seen) == 2


def test_silence_is_a_broken_connection(client, course, fault):
    course.faults = [fault(after=300, how="silence")]

    started = time.monotonic()
    assert list(client.stream_task("t1", idle_timeout=0.2, **FAST)) == STATES
    assert time.monotonic() - started < 10


def test_slow_frames_and_heartbeats_are_not_a_timeout(client, course, fault):
    course.events = COURSE[-1:]
    course.faults = [fault(drip=0.004)]

    (update,) = client.stream_task("t1", idle_timeout=0.25, **FAST)

    assert update["status"] == 9
    assert len(course.seen) == 1


def test_a_server_that_never_gets_on_is_given_up_with_what_is_known(client, course, fault):
    course.events = COURSE[:2]

    with client.stream_task("t1", max_reconnects=3, **FAST) as stream, pytest.raises(StreamError) as caught:
        list(stream)

    assert len(course.seen) == 4
    assert caught.value.task == STATES[1]
    assert caught.value.task_id == "t1"
    assert stream.error is caught.value
    assert isinstance(caught.value.__cause__, InferenceConnectionError)


def test_each_new_state_renews_the_patience(client, course, fault):
    course.most_events = 1
    course.faults = [fault(after=0), fault(status=500), fault()] * 4

    assert list(client.stream_task("t1", max_reconnects=3, **FAST)) == STATES
    assert len(course.seen) == 12


def test_without_reconnecting_the_first_break_is_an_error(client, course, fault):
    course.faults = [fault(after=300)]

    with pytest.raises(StreamError):
        list(client.stream_task("t1", auto_reconnect=False))

    assert len(course.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_the_server_refuses_is_an_api_error_at_once(client, server, fault, status):
    server.faults = [fault(status=status)]

    with client.stream_task("t1") as stream, pytest.raises(APIError) as caught:
        list(stream)

    assert (caught.value.status_code, caught.value.code, caught.value.request_id) == (status, "made", "r1")
    assert "made up" in str(caught.value)
    assert stream.error is caught.value
    assert len(server.seen) == 1


def test_errors_that_last_are_api_errors(client, server, fault):
    server.faults = [fault(status=500)] * 9

    with pytest.raises(APIError):
        list(client.stream_task("t1", max_reconnects=2, **FAST))

    assert len(server.seen) == 3


def test_retry_after_is_obeyed(client, course, fault):
    course.faults = [fault(status=503, headers={"Retry-After": "0.4"})]

    started = time.monotonic()
    assert list(client.stream_task("t1", **FAST)) == STATES
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize(("status", "kind"), [(10, TaskFailed), (11, TaskCancelled)])
def test_a_task_that_ends_badly_is_shown_and_raised(client, server, status, kind):
    server.events = [("1", {"id": "t1", "status": status, "error": "boom", "logs": [{"content": "one\ntwo"}]})]
    updates = []

    with client.stream_task("t1") as stream, pytest.raises(kind, match="boom") as caught:
        updates.extend(stream)
    assert updates == [server.events[0][1]]
    with client.stream_task("t1") as stream:
        assert next(stream)["status"] == status
        assert isinstance(stream.error, kind)

    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, InferenceError)
    assert (caught.value.task_id, caught.value.error, caught.value.logs) == ("t1", "boom", ["one", "two"])
    assert caught.value.task == server.events[0][1]
    assert "| two" in str(caught.value)


def test_leaving_the_block_closes_the_connection(client, course, fault):
    course.faults = [fault(after=300, how="silence")]

    with client.stream_task("t1") as stream:
        next(stream)
        assert client.get_task("t1")["status"] == 9
    connections = {seen.connection for seen in course.seen}
    assert len(connections) == 2
    assert list(stream) == []


def test_waiting_has_a_time_limit_that_heartbeats_do_not_move(client, course, fault):
    course.events = COURSE[:2]
    course.tail = b": heartbeat\n\n" * 200
    course.faults = [fault(drip=0.002)] * 9

    started = time.monotonic()
    with pytest.raises(InferenceTimeout, match=r"t1 has not ended within 0\.5 s; it goes on"):
        client.wait_for_completion("t1", timeout=0.5)
    assert 0.45 < time.monotonic() - started < 15


def test_waiting_in_silence_has_a_time_limit(client, course, fault):
    course.faults = [fault(after=300, how="silence")] * 9

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        client.wait_for_completion("t1", timeout=0.4)
    assert 0.35 < time.monotonic() - started < 15


def test_run_streams_from_the_submission_on(client, course):
    updates = list(client.run({"app": "a", "input": 1}, stream=True))

    assert [TaskStatus(update["status"]).name for update in updates] == [
        "RECEIVED", "RECEIVED", "RUNNING", "RUNNING", "COMPLETED",
    ]  # fmt: skip
    assert updates[-1]["input"] == 1


def test_progress_is_reported(client, course, capsys):
    told = []

    client.run({"app": "a"}, progress=lambda task: told.append(task["status"]))
    client.wait_for_completion("t1", progress=True)

    assert told == [1, 1, 7, 7, 9]
    shown = capsys.readouterr().err
    assert "running   50%  [############            ]" in shown
    assert shown.endswith("completed   50%  [############            ]\n")
