from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients import IFRConnectionError, IFRRejected, IFRResponseInvalid, IFRTimeout
from ifr_clients._messages import Call, Request, Response
from ifr_clients._retry import RETRIED_STATUSES, RetryPolicy, Send, Wait, retry_after_seconds, with_retries

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
seconds = st.floats(0, 1000)
jitters = st.floats(0, 1)


def rejected(status, retry_after=None, code=None):
    return IFRRejected(status, code or f"http_{status}", "message", retry_after=retry_after)


def untrusted():
    error = IFRConnectionError("cannot connect: CERTIFICATE_VERIFY_FAILED")
    error.transient = False
    return error


retried = st.one_of(
    st.just(IFRConnectionError("cut")), st.builds(rejected, st.sampled_from(RETRIED_STATUSES), st.none() | seconds)
)
never_retried = st.one_of(
    st.just(IFRTimeout("late")),
    st.just(IFRResponseInvalid("odd")),
    st.builds(untrusted),
    # a server that says why, but not when
    st.builds(rejected, st.sampled_from(RETRIED_STATUSES), st.none(), st.just("model_unavailable")),
    st.builds(
        rejected, st.integers(300, 599).filter(lambda status: status not in RETRIED_STATUSES), st.none() | seconds
    ),
)


@given(retried, st.integers(1, 10), seconds, jitters, st.none() | st.integers(0, 5))
def test_a_wait_obeys_the_server_and_ends_before_the_calls_time_is_up(error, failures, remaining, jitter, retries):
    wait = RetryPolicy(retries).wait(error, failures, remaining, jitter)

    if retries is not None and failures > retries:
        assert wait is None
    if wait is not None:
        assert 0 < wait < remaining
        assert wait >= (getattr(error, "retry_after", None) or 0)


@given(never_retried, seconds, jitters)
def test_nothing_else_is_tried_again(error, remaining, jitter):
    assert RetryPolicy().wait(error, 1, remaining, jitter) is None


def test_waits_double_where_the_server_names_no_time():
    waits = [RetryPolicy().wait(IFRConnectionError("cut"), failure, 1000) for failure in range(1, 8)]

    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


def test_the_last_waits_are_shorter_so_that_the_call_uses_its_time():
    assert RetryPolicy().wait(IFRConnectionError("cut"), 6, 4.0) == 2
    assert RetryPolicy().wait(IFRConnectionError("cut"), 7, 0.1) is None


def test_a_server_that_asks_for_too_long_is_not_waited_for():
    assert RetryPolicy().wait(rejected(503, 61), 1, 1000) is None
    assert RetryPolicy().wait(rejected(503, 60), 1, 1000) == 60
    assert RetryPolicy().wait(rejected(503, 60), 1, 59) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("3", 3),
        ("2.5", 2.5),
        ("0", 0),
        ("-5", 0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 2026 12:00:07 GMT", 7),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Thu, 01 Jan 2026 12:00:07 -0000", 7),
    ],
)
def test_retry_after_is_read_as_seconds(value, expected):
    assert retry_after_seconds(value, NOW) == expected


@given(st.text())
def test_no_retry_after_breaks_the_client(value):
    found = retry_after_seconds(value, NOW)

    assert found is None or found >= 0


# --- the flow of a whole call, with a clock that only waiting moves


def drive(replies, *, timeout=100.0, retries=3):
    """Everything that a call does, against replies that are Responses or errors, the last one again and again; its
    result or error at the end."""
    now = 0.0
    call = Call(Request("GET", "http://server/x", {}), _parse)
    steps = with_retries(call, RetryPolicy(retries), timeout, lambda: now, lambda: 0.0)
    done = []
    try:
        step = next(steps)
        while True:
            done.append(step)
            if isinstance(step, Wait):
                now += step.seconds
                step = steps.send(None)
            elif isinstance(reply := replies.pop(0) if len(replies) > 1 else replies[0], Exception):
                step = steps.throw(reply)
            else:
                step = steps.send(reply)
    except StopIteration as end:
        return done, end.value
    except Exception as error:  # noqa: BLE001 - is what the test looks at
        return done, error


def _parse(response):
    if response.status != 200:
        raise rejected(response.status, retry_after_seconds(response.headers.get("retry-after")))
    return response.body


FINE = Response(200, {}, b"fine")
BUSY = Response(503, {"retry-after": "2"}, b"")


def test_a_call_that_works_is_sent_once():
    done, result = drive([FINE])

    assert [type(step) for step in done] == [Send]
    assert result == b"fine"


def test_a_busy_server_is_asked_again_when_it_said():
    done, result = drive([BUSY, IFRConnectionError("cut"), FINE])

    assert [getattr(step, "seconds", None) for step in done] == pytest.approx([100, 2, 98, 0.4, 97.6])
    assert result == b"fine"


def test_the_last_error_is_raised_after_the_last_retry():
    done, error = drive([IFRConnectionError("1"), IFRConnectionError("2"), IFRConnectionError("3")], retries=2)

    assert len(done) == 5
    assert str(error) == "3"


def test_a_server_that_needs_longer_than_the_call_has_is_not_waited_for():
    done, error = drive([BUSY], timeout=1.5)

    assert len(done) == 1
    assert error.retry_after == 2


def test_a_timeout_ends_the_call():
    done, error = drive([IFRTimeout("late")])

    assert len(done) == 1
    assert isinstance(error, IFRTimeout)


@pytest.mark.parametrize("timeout", [1.0, 5.0, 120.0])
def test_a_server_that_is_down_is_tried_until_the_time_is_up(timeout):
    done, error = drive([IFRConnectionError("refused")], timeout=timeout, retries=None)

    waited = sum(step.seconds for step in done if isinstance(step, Wait))
    assert timeout - 0.2 <= waited < timeout
    assert str(error) == "refused"
    assert len(done) < 80


def test_a_call_that_waits_for_long_says_why_once(caplog):
    drive([IFRConnectionError("refused"), IFRConnectionError("refused"), FINE], retries=None)
    assert caplog.messages == []

    drive([IFRConnectionError("refused")], timeout=60, retries=None)

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("refused; it is tried again for up to 5")


@given(
    st.lists(st.sampled_from([BUSY, Response(429, {}, b""), IFRConnectionError("cut"), FINE]), min_size=20, max_size=20)
)
def test_a_call_never_plans_beyond_its_time(replies):
    done, _ = drive(replies, timeout=5.0, retries=19)

    waited = 0.0
    for step in done:
        if isinstance(step, Send):
            assert step.seconds <= 5.0 - waited + 1e-9
        else:
            waited += step.seconds
    assert waited < 5.0
