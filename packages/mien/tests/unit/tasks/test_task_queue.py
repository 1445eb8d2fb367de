"""The order of the queue."""

from typing import Any

from mien.tasks.queue import Queue
from mien.tasks.records import Candidate
from mien.workers.fit import Fit

NOW = 1000.0


def candidate(seq: int, app: str = "a", *, priority: int = 0, at: float = NOW, **fields: Any) -> Candidate:
    values: dict[str, Any] = {
        "id": f"t{seq}", "seq": seq, "attempt": 1, "app": app, "app_version": "", "variant": "", "function": "",
        "setup_key": "", "session_id": None, "priority": priority, "created_at": at,
        "run_at": None, "deadline": None,
    }  # fmt: skip
    return Candidate(**values | fields)


def order(queue: Queue, now: float, fits: dict[str, Fit]) -> list[int]:
    chosen = []
    while (one := queue.choose(now, lambda candidate: fits.get(candidate.app, Fit.COLD), ())) is not None:
        chosen.append(one.seq)
    return chosen


def filled(*candidates: Candidate, aging_seconds: float = 30.0) -> Queue:
    queue = Queue(aging_seconds)
    for one in candidates:
        queue.add(one, NOW)
    return queue


def test_priority_then_fit_then_age() -> None:
    queue = filled(
        candidate(1, "cold"),
        candidate(2, "warm"),
        candidate(3, "warm"),
        candidate(4, "cold", priority=1),
        candidate(5, "warm", priority=-1),
    )
    assert order(queue, NOW, {"warm": Fit.WARM}) == [4, 2, 3, 1, 5]
    assert len(queue) == 0


def test_an_aged_task_overtakes_the_warm() -> None:
    queue = filled(candidate(1, "cold"), *[candidate(n, "warm", at=NOW + 20) for n in range(2, 6)])
    assert order(queue, NOW + 31, {"warm": Fit.WARM}) == [1, 2, 3, 4, 5]


def test_a_cold_task_is_never_starved_by_a_stream_of_warm_ones() -> None:
    queue = filled(candidate(1, "cold"))
    now, seq, served = NOW, 2, []
    while 1 not in served:
        queue.add(candidate(seq, "warm", at=now), now)
        one = queue.choose(now, lambda one: Fit.WARM if one.app == "warm" else Fit.COLD, ())
        assert one is not None
        served.append(one.seq)
        now, seq = now + 1, seq + 1
        assert now < NOW + 35


def test_an_unplaceable_task_becomes_a_barrier_after_twice_the_aging_threshold() -> None:
    fits = {"big": Fit.NO_CAPACITY, "small": Fit.WARM}
    waiting = [candidate(1, "small"), candidate(2, "big"), candidate(3, "small"), candidate(4, "small", priority=1)]
    assert order(filled(*waiting), NOW + 59, fits) == [4, 1, 3]
    assert order(filled(*waiting), NOW + 61, fits) == [4, 1]
    assert order(filled(*waiting), NOW + 61, {"big": Fit.BLOCKED, "small": Fit.WARM}) == [4, 1, 3]


def test_full_apps_and_later_times_are_passed_over() -> None:
    queue = filled(
        candidate(1, "full"), candidate(2, "later", run_at=NOW + 10), candidate(3, "free", deadline=NOW + 20)
    )
    assert queue.next_time() == NOW + 10
    chosen = queue.choose(NOW, lambda _: Fit.COLD, {"full"})
    assert chosen is not None
    assert chosen.seq == 3
    assert queue.choose(NOW, lambda _: Fit.COLD, {"full"}) is None
    assert not queue.deadline_passed(NOW + 21)
    later = queue.choose(NOW + 10, lambda _: Fit.COLD, {"full"})
    assert later is not None
    assert later.seq == 2


def test_memory_is_bounded_by_the_queue_however_many_come_and_go() -> None:
    queue = filled(candidate(0))
    for seq in range(1, 20_000):
        queue.add(candidate(seq, deadline=NOW + 1e6, run_at=NOW + 1e6 if seq % 2 else None), NOW)
        queue.discard(f"t{seq}")
    held = sum(map(len, queue._groups.values())) + len(queue._later) + len(queue._deadlines)
    assert held < 5000
    assert order(queue, NOW, {}) == [0]


def test_tasks_that_wait_for_a_date_are_counted_apart() -> None:
    queue = filled(candidate(1), candidate(2, run_at=NOW + 10), candidate(3, run_at=NOW + 20), candidate(4, run_at=NOW))
    assert (len(queue), queue.scheduled, queue.next_run_at()) == (2, 2, NOW + 10)
    queue.discard("t3")
    assert (len(queue), queue.scheduled) == (2, 1)
    queue.admit_due(NOW + 10)
    assert (len(queue), queue.scheduled, queue.next_run_at()) == (3, 0, None)
    assert order(queue, NOW + 10, {}) == [1, 2, 4]
    assert (len(queue), queue.scheduled) == (0, 0)


def test_the_counts_hold_when_thousands_come_and_go() -> None:
    queue = Queue(30.0)
    for seq in range(5000):
        queue.add(candidate(seq, run_at=NOW + 60 if seq % 2 else None), NOW)
        if seq % 5:
            queue.discard(f"t{seq}")
    assert (len(queue), queue.scheduled) == (500, 500)
    queue.admit_due(NOW + 60)
    assert (len(queue), queue.scheduled) == (1000, 0)


def test_a_task_past_its_deadline_can_be_left_out() -> None:
    queue = filled(candidate(1, deadline=NOW + 5), candidate(2, deadline=NOW + 50), candidate(3))
    queue.discard_late(NOW + 10)
    assert not queue.deadline_passed(NOW + 10)
    assert order(queue, NOW + 10, {}) == [2, 3]
