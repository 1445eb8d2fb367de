"""Batches are shared, ordered, bounded and isolated; runners are plain functions here."""

import gc
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.engine.batcher import Batcher, Lanes, Runner, Tensor
from mien.engine.cancellation import CancelScope
from mien.errors import Cancelled, DeadlineExceeded, ModelError
from testing.waiting import eventually

SOON = 30.0  # seconds that nothing here may take


def item(value: float, *, size: int = 2) -> Tensor:
    return np.full(size, value, np.float32)


def doubled(batch: Tensor) -> tuple[Tensor, ...]:
    return (batch * 2,)


def values(outputs: list[tuple[Tensor, ...]]) -> list[float]:
    return [float(output[0][0]) for output in outputs]


class Gate:
    """A runner that records its batches and blocks each run until it is opened."""

    def __init__(self, *, opened: bool = False) -> None:
        self.batches: list[list[float]] = []
        self.started = threading.Semaphore(0)
        self.opened = threading.Event()
        if opened:
            self.opened.set()

    def __call__(self, batch: Tensor) -> tuple[Tensor, ...]:
        self.batches.append([float(row[0]) for row in batch])
        self.started.release()
        assert self.opened.wait(SOON)
        return (batch * 2,)

    def wait_for_start(self) -> None:
        assert self.started.acquire(timeout=SOON)


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(2)
    yield made
    made.close()


def lanes(*runners: Runner, threads: int = 1, max_batch: int = 8, stage: int = 0, name: str = "model") -> Lanes:
    return Lanes(name, runners, threads=threads, max_batch=max_batch, stage=stage)


def queue_behind(
    batcher: Batcher, model: Lanes, callers: ThreadPoolExecutor, *groups: list[Tensor], call: CancelScope | None = None
) -> list[Future[list[tuple[Tensor, ...]]]]:
    """Submit each group from a thread of its own, one after the other, while the model is busy."""
    futures = []
    for group in groups:
        before = batcher.depth()
        futures.append(callers.submit(batcher.run, model, group, call or CancelScope()))
        eventually(lambda: batcher.depth() == before + len(group))  # noqa: B023
    return futures


def test_tensors_are_free_as_soon_as_their_run_is_over(batcher: Batcher) -> None:
    tensors = [item(1), item(2)]
    kept = [weakref.ref(tensor) for tensor in tensors]
    gc.disable()
    try:
        outputs = batcher.run(lanes(doubled), tensors, CancelScope())
        kept += [weakref.ref(array) for output in outputs for array in output]
        del tensors, outputs
        assert [held() for held in kept] == [None] * 4
    finally:
        gc.enable()


def test_results_are_returned_in_order(batcher: Batcher) -> None:
    assert values(batcher.run(lanes(doubled), [item(1), item(2), item(3)], CancelScope())) == [2, 4, 6]


def test_no_items_need_no_run(batcher: Batcher) -> None:
    gate = Gate()
    assert batcher.run(lanes(gate), [], CancelScope()) == []
    assert gate.batches == []


def test_a_lone_caller_runs_its_batch_in_its_own_thread(batcher: Batcher) -> None:
    threads = []

    def runner(batch: Tensor) -> tuple[Tensor, ...]:
        threads.append(threading.current_thread())
        return (batch,)

    batcher.run(lanes(runner), [item(1)], CancelScope())
    assert threads == [threading.current_thread()]


def test_a_batch_starts_immediately_when_a_lane_is_free(batcher: Batcher) -> None:
    gate = Gate(opened=True)
    batcher.run(lanes(gate, max_batch=8), [item(1)], CancelScope())
    assert gate.batches == [[1]]


def test_waiting_callers_share_the_next_run(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    waiting = queue_behind(batcher, model, callers, [item(2)], [item(3), item(4)], [item(5)])
    gate.opened.set()
    assert [values(f.result(SOON)) for f in (first, *waiting)] == [[2], [4], [6, 8], [10]]
    assert gate.batches == [[1], [2, 3, 4, 5]]


def test_only_equal_shapes_share_a_run(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    waiting = queue_behind(batcher, model, callers, [item(2)], [item(3, size=5)], [item(4)])
    gate.opened.set()
    for future in (first, *waiting):
        future.result(SOON)
    assert sorted(gate.batches) == [[1], [2, 4], [3]]


def test_the_largest_batch_is_obeyed(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate()
    model = lanes(gate, max_batch=3)
    first = callers.submit(batcher.run, model, [item(0)], CancelScope())
    gate.wait_for_start()
    waiting = queue_behind(batcher, model, callers, *[[item(i)] for i in range(1, 8)])
    gate.opened.set()
    for future in (first, *waiting):
        future.result(SOON)
    assert [len(batch) for batch in gate.batches] == [1, 3, 3, 1]


def test_a_batch_is_bounded_in_bytes_too(batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.engine.batcher.MAX_BATCH_BYTES", 2 * item(0).nbytes)
    gate = Gate(opened=True)
    batcher.run(lanes(gate, max_batch=8), [item(i) for i in range(5)], CancelScope())
    assert max(len(batch) for batch in gate.batches) == 2


def test_a_model_without_a_batch_axis_runs_items_one_by_one(batcher: Batcher) -> None:
    def runner(batch: Tensor) -> tuple[Tensor, ...]:
        assert len(batch) == 1
        return (batch[0] * 2,)

    model = Lanes("fixed", [runner], threads=1, max_batch=8, stage=0, stacked=False)
    assert values(batcher.run(model, [item(1), item(2)], CancelScope())) == [2, 4]


def test_items_of_one_caller_use_every_lane(batcher: Batcher) -> None:
    together = threading.Barrier(2, timeout=SOON)

    def runner(batch: Tensor) -> tuple[Tensor, ...]:
        together.wait()
        return (batch * 2,)

    assert values(batcher.run(lanes(runner, runner, max_batch=1), [item(1), item(2)], CancelScope())) == [2, 4]


def test_a_batch_waits_for_the_coalescing_window(callers: ThreadPoolExecutor) -> None:
    batcher, gate = Batcher(1, window=0.3), Gate(opened=True)
    model = lanes(gate)
    started = time.monotonic()
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    time.sleep(0.05)
    second = callers.submit(batcher.run, model, [item(2)], CancelScope())
    first.result(SOON)
    second.result(SOON)
    batcher.close()
    assert gate.batches == [[1, 2]]
    assert 0.25 < time.monotonic() - started < 2


def test_a_full_batch_does_not_wait_for_the_window() -> None:
    batcher = Batcher(1, window=SOON)
    started = time.monotonic()
    batcher.run(lanes(doubled, max_batch=2), [item(1), item(2)], CancelScope())
    assert time.monotonic() - started < SOON / 2
    batcher.close()


def test_later_stages_go_first(callers: ThreadPoolExecutor) -> None:
    batcher, order, hold = Batcher(1), [], Gate()

    def noted(name: str) -> Runner:
        def runner(batch: Tensor) -> tuple[Tensor, ...]:
            order.append(name)
            return (batch,)

        return runner

    first = callers.submit(batcher.run, lanes(hold), [item(0)], CancelScope())
    hold.wait_for_start()
    waiting = [
        *queue_behind(batcher, lanes(noted("detect"), stage=0), callers, [item(1)]),
        *queue_behind(batcher, lanes(noted("recognise"), stage=3), callers, [item(2)]),
        *queue_behind(batcher, lanes(noted("refine"), stage=1), callers, [item(3)]),
    ]
    hold.opened.set()
    for future in (first, *waiting):
        future.result(SOON)
    batcher.close()
    assert order == ["recognise", "refine", "detect"]


# --- deadlines and cancels


def test_a_deadline_fires_while_queued(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
        batcher.run(model, [item(2)], CancelScope(0.1))
    assert time.monotonic() - started < SOON
    assert batcher.depth() == 0
    gate.opened.set()
    assert values(first.result(SOON)) == [2]
    assert gate.batches == [[1]]


def test_a_cancelled_caller_wakes_immediately_and_never_runs(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate, call = Gate(), CancelScope()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    (cancelled,) = queue_behind(batcher, model, callers, [item(2)], call=call)
    (other,) = queue_behind(batcher, model, callers, [item(3)])
    call.cancel()
    with pytest.raises(Cancelled):
        cancelled.result(1)
    gate.opened.set()
    assert values(first.result(SOON)) == [2]
    assert values(other.result(SOON)) == [6]
    assert gate.batches == [[1], [3]]


def test_inputs_of_a_scope_that_is_over_are_not_even_queued(batcher: Batcher) -> None:
    gate, call = Gate(opened=True), CancelScope()
    call.cancel()
    with pytest.raises(Cancelled):
        batcher.run(lanes(gate), [item(1)], call)
    assert gate.batches == []


def test_a_cancel_during_a_shared_run_leaves_the_others_their_results(
    batcher: Batcher, callers: ThreadPoolExecutor
) -> None:
    hold, call = Gate(), CancelScope()
    model = lanes(hold)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    hold.wait_for_start()
    (cancelled,) = queue_behind(batcher, model, callers, [item(2)], call=call)
    (other,) = queue_behind(batcher, model, callers, [item(3)])
    hold.opened.set()
    call.cancel()
    assert values(other.result(SOON)) == [6]
    assert values(first.result(SOON)) == [2]
    assert isinstance(cancelled.exception(SOON), Cancelled | None)


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_at_any_instant_wakes_the_caller(batcher: Batcher, callers: ThreadPoolExecutor, round_: int) -> None:
    """The lane is busy all along, so nothing but the cancel itself can wake the caller."""
    gate = Gate()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(0)], CancelScope())
    gate.wait_for_start()
    chance = random.Random(round_)
    for _ in range(100):
        call = CancelScope()
        waiting = callers.submit(batcher.run, model, [item(1)], call)
        for _ in range(chance.randrange(3000)):
            pass
        call.cancel()
        with pytest.raises(Cancelled):
            waiting.result(SOON)
    gate.opened.set()
    first.result(SOON)


@pytest.mark.parametrize("look", [1, 2])  # when it is queued, and before it waits
def test_a_cancel_right_after_the_caller_checked_is_not_missed(
    batcher: Batcher, callers: ThreadPoolExecutor, look: int
) -> None:
    class Unlucky(CancelScope):
        looks = 0

        def over(self) -> bool:
            over = super().over()
            self.looks += 1
            if self.looks == look:
                self.cancel()
            return over

    gate = Gate()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(0)], CancelScope())
    gate.wait_for_start()
    unlucky = callers.submit(batcher.run, model, [item(1)], Unlucky())
    try:
        assert isinstance(unlucky.exception(1), Cancelled)
    finally:
        gate.opened.set()
        first.result(SOON)


# --- failures


def refusing(bad: float) -> Runner:
    def runner(batch: Tensor) -> tuple[Tensor, ...]:
        if (batch == bad).any():
            raise ValueError(f"cannot run {bad:g}")
        return (batch * 2,)

    return runner


def test_one_bad_item_fails_alone(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    hold = Gate()

    def runner(batch: Tensor) -> tuple[Tensor, ...]:
        return hold(batch) if batch[0, 0] == 0 else refusing(13)(batch)

    model = lanes(runner)
    first = callers.submit(batcher.run, model, [item(0)], CancelScope())
    hold.wait_for_start()
    good, bad, also_good = queue_behind(batcher, model, callers, [item(1)], [item(13)], [item(2)])
    hold.opened.set()
    assert [values(f.result(SOON)) for f in (first, good, also_good)] == [[0], [2], [4]]
    with pytest.raises(ModelError, match="model: the run failed: cannot run 13"):
        bad.result(SOON)


def test_the_lane_is_free_again_after_a_failure(batcher: Batcher) -> None:
    model = lanes(refusing(13))
    with pytest.raises(ModelError):
        batcher.run(model, [item(13)], CancelScope())
    assert values(batcher.run(model, [item(1)], CancelScope())) == [2]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_run_that_returns_the_wrong_count_is_an_error_not_a_mix_up(batcher: Batcher, count: int) -> None:
    def runner(batch: Tensor) -> tuple[Tensor, ...]:
        return (np.zeros((count, 2), np.float32),) if len(batch) == 2 else (np.zeros((2, 2), np.float32),)

    with pytest.raises(ModelError, match="returned 2 items for a batch of 1"):
        batcher.run(lanes(runner), [item(1), item(2)], CancelScope())


# --- closing


def test_close_finishes_what_is_queued_and_refuses_the_rest(callers: ThreadPoolExecutor) -> None:
    batcher, gate = Batcher(1), Gate()
    model = lanes(gate, max_batch=1)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    (queued,) = queue_behind(batcher, model, callers, [item(2)])
    closing = callers.submit(batcher.close)
    eventually(lambda: batcher._closed)
    with pytest.raises(ModelError, match="closed"):
        batcher.run(model, [item(3)], CancelScope())
    assert not closing.done()
    gate.opened.set()
    closing.result(SOON)
    assert [values(f.result(SOON)) for f in (first, queued)] == [[2], [4]]


def test_close_ends_when_the_queued_callers_give_up(callers: ThreadPoolExecutor) -> None:
    batcher, gate, call = Batcher(1), Gate(), CancelScope()
    model = lanes(gate)
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    (queued,) = queue_behind(batcher, model, callers, [item(2)], call=call)
    closing = callers.submit(batcher.close)
    call.cancel()
    gate.opened.set()
    closing.result(SOON)
    first.result(SOON)
    assert isinstance(queued.exception(SOON), Cancelled)


# --- invariants


class Meter:
    """Counts threads that run at once and checks that each session is used by one batch at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.busy = 0
        self.most = 0
        self.sizes: Counter[int] = Counter()

    def session(self, threads: int, seconds: float) -> Runner:
        alone = threading.Lock()

        def runner(batch: Tensor) -> tuple[Tensor, ...]:
            assert alone.acquire(blocking=False), "a session runs two batches at once"
            with self.lock:
                self.busy += threads
                self.most = max(self.most, self.busy)
                self.sizes[len(batch)] += 1
            time.sleep(seconds)
            with self.lock:
                self.busy -= threads
            alone.release()
            if (batch == 13).any():
                raise ValueError("13")
            return (batch * 2, batch.sum(axis=1))

        return runner


@settings(max_examples=15, deadline=None)
@given(
    budget=st.integers(1, 4),
    widths=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=3),
    groups=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), min_size=1, max_size=12),
)
def test_results_match_inputs_and_the_budget_holds(
    budget: int, widths: list[tuple[int, int, int]], groups: list[list[int]]
) -> None:
    meter, batcher = Meter(), Batcher(budget)
    models = []
    for stage, (threads, count, max_batch) in enumerate(widths):
        width = min(threads, budget)
        sessions = [meter.session(width, 0.0005) for _ in range(count)]
        models.append(lanes(*sessions, threads=width, max_batch=max_batch, stage=stage))
    with ThreadPoolExecutor(12) as pool:
        asked = [
            (
                group,
                pool.submit(
                    batcher.run, models[n % len(models)], [item(v, size=1 + v % 2) for v in group], CancelScope()
                ),
            )
            for n, group in enumerate(groups)
        ]
    for group, future in asked:
        if 13 in group:
            assert isinstance(future.exception(SOON), ModelError)
        else:
            assert values(future.result(SOON)) == [2 * v for v in group]
    batcher.close()
    assert meter.most <= budget
    assert max(meter.sizes) <= max(max_batch for _, _, max_batch in widths)


ROUNDS = 60


@pytest.mark.parametrize("wait", [0.0, 0.002])
def test_32_threads_with_random_cancels_neither_hang_nor_mix_up_results(wait: float) -> None:
    budget, meter = 3, Meter()
    batcher = Batcher(budget, window=wait)
    models = [
        lanes(*[meter.session(1, 0.0002) for _ in range(3)], threads=1, max_batch=4, stage=0),
        lanes(*[meter.session(2, 0.0002) for _ in range(2)], threads=2, max_batch=8, stage=1),
        lanes(meter.session(1, 0.0), threads=1, max_batch=1, stage=2),
    ]
    outcomes: Counter[str] = Counter()

    def caller(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(ROUNDS):
            wanted = [chance.randrange(20, 1000) for _ in range(chance.choice([1, 1, 2, 5]))]
            if chance.random() < 0.02:
                wanted.append(13)
            call = CancelScope(chance.choice([None, 0.003, SOON]))
            timer = threading.Timer(chance.random() * 0.003, call.cancel) if chance.random() < 0.1 else None
            if timer:
                timer.start()
            try:
                found = batcher.run(chance.choice(models), [item(v, size=1 + v % 2) for v in wanted], call)
            except (Cancelled, DeadlineExceeded, ModelError) as error:
                outcomes[type(error).__name__] += 1
            else:
                outcomes["done"] += 1
                assert values(found) == [2 * v for v in wanted]
                assert [float(output[1]) for output in found] == [v * (1 + v % 2) for v in wanted]
            if timer:
                timer.join()

    pool = ThreadPoolExecutor(32)
    running = [pool.submit(caller, seed) for seed in range(32)]
    finished, stuck = wait_for(running, timeout=60)
    assert not stuck, f"{len(stuck)} callers hang"
    for future in finished:
        future.result()
    pool.shutdown()
    batcher.close()
    assert sum(outcomes.values()) == 32 * ROUNDS
    assert outcomes["done"] > 5 * ROUNDS
    assert meter.most <= budget


def test_the_observer_sees_every_run(callers: ThreadPoolExecutor) -> None:
    told: list[tuple[str, int, float, float]] = []

    class Notes:
        def observe_run(self, model: str, size: int, seconds: float, waited: float) -> None:
            told.append((model, size, seconds, waited))

    batcher, gate = Batcher(1, observer=Notes()), Gate()
    model = lanes(gate, name="yunet")
    first = callers.submit(batcher.run, model, [item(1)], CancelScope())
    gate.wait_for_start()
    (second,) = queue_behind(batcher, model, callers, [item(2), item(3)])
    time.sleep(0.05)
    gate.opened.set()
    first.result(SOON)
    second.result(SOON)
    batcher.close()
    assert [(model, size) for model, size, _, _ in told] == [("yunet", 1), ("yunet", 2)]
    assert told[0][2] >= 0.05
    assert told[1][3] >= 0.05
