"""Admission control bounds the work in the server and says when to retry."""

import pytest

from mien.engine.admission import Admission
from mien.errors import Overloaded, Unavailable


@pytest.fixture
def admission() -> Admission:
    return Admission(max_images=10, max_bytes=1000)


def test_images_over_the_limit_are_told_when_to_retry(admission: Admission) -> None:
    with (
        admission.work(8),
        pytest.raises(
            Overloaded, match="8 images are queued or running; 3 more would exceed the limit of 10"
        ) as refused,
        admission.work(3),
    ):
        pass
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    assert refused.value.status == 429


def test_the_limit_itself_is_let_in(admission: Admission) -> None:
    with admission.work(8), admission.work(2):
        assert admission.images == 10


def test_an_empty_server_takes_a_request_of_any_size(admission: Admission) -> None:
    with admission.work(64):
        assert admission.images == 64


def test_finished_images_free_their_slots_early(admission: Admission) -> None:
    with admission.work(10) as finished:
        finished()
        finished()
        with admission.work(2):
            assert admission.images == 10
    assert admission.idle


def test_slots_are_freed_after_a_failure(admission: Admission) -> None:
    def fail() -> None:
        with admission.work(5) as finished:
            finished()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert admission.idle


def test_bytes_over_the_limit_are_rejected_before_they_are_read(admission: Admission) -> None:
    with (
        admission.body(900),
        pytest.raises(Overloaded, match="900 bytes of requests are in progress; 200 more"),
        admission.body(200),
    ):
        pass
    with admission.body(5000):
        assert admission.bytes == 5000
    assert admission.idle


def test_retry_after_grows_with_depth() -> None:
    admission = Admission(max_images=10_000, max_bytes=1)
    said = []
    for depth in (10, 100, 1000):
        with admission.work(depth):
            said.append(admission.retry_after())
    assert said == sorted(said)
    assert said[0] < said[-1]


def test_retry_after_follows_the_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mien.engine.admission.time.monotonic", lambda: clock[0])
    admission = Admission(max_images=1000, max_bytes=1)
    with admission.work(300) as finished:
        for _ in range(200):
            clock[0] += 0.5
            finished()
        assert admission.retry_after() == pytest.approx(100 * 0.5, abs=2)
        for _ in range(50):
            clock[0] += 0.01
            finished()
        assert admission.retry_after() < 10


def test_idle_time_between_requests_is_not_service_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mien.engine.admission.time.monotonic", lambda: clock[0])
    admission = Admission(max_images=1000, max_bytes=1)
    for _ in range(50):
        clock[0] += 3600
        with admission.work(1) as finished:
            finished()
    with admission.work(100):
        assert admission.retry_after() == 10


def test_a_draining_server_refuses_everything_new_and_keeps_the_rest(admission: Admission) -> None:
    with admission.work(1):
        admission.drain()
        with pytest.raises(Unavailable, match="shutting down"), admission.work(1):
            pass
        with pytest.raises(Unavailable, match="shutting down"), admission.body(1):
            pass
        assert admission.images == 1
