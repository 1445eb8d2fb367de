"""Dynamic batching under one thread budget.

Callers are plain threads that want a model run on a few items. Whoever finds a session free runs it in its own
thread; whoever does not, waits, and is either handed the result by another caller's batch or handed the lead of the
next one. So one caller alone pays no thread switch, and many callers share model calls without a thread of ours
in between. Spare threads lead only what no waiting caller can lead: one caller's further batches.

A batch holds items of one model, one shape and one type. It leaves when a session and its threads are free; later
stages of the pipeline first, so that what was started is finished before more is started.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien.engine.call import Call
from mien.errors import MienError, ModelError

Tensor: TypeAlias = NDArray[np.float32]
Input: TypeAlias = NDArray[Any]
"""One item, or a batch of them, as a model takes it: float32 images, int64 tokens."""
Runner: TypeAlias = Callable[[Input], tuple[Tensor, ...]]
MAX_BATCH_BYTES = 256 * 1024 * 1024


class Observer(Protocol):
    """Is told about every model run."""

    def ran(self, model: str, size: int, seconds: float, waited: float) -> None:
        """`size` items of `model` ran in `seconds`; the first of them had `waited` seconds for it."""


class Lanes:
    """One model's sessions: each is used by one batch at a time."""

    def __init__(
        self, name: str, runners: Sequence[Runner], *, threads: int, max_batch: int, stage: int, stacked: bool = True
    ) -> None:
        """`threads`: what one run takes from the budget. `stage`: later stages go first.

        `stacked`: outputs have a batch axis. False for files that were exported for one item and without one.
        """
        self.name = name
        self.threads = threads
        self.max_batch = max_batch if stacked else 1
        self.stage = stage
        self.stacked = stacked
        self.free = list(runners)


@dataclass(eq=False, slots=True)
class _Item:
    tensor: Input
    owner: "_Submission"
    queued: float = 0.0
    outputs: tuple[Tensor, ...] | None = None
    error: MienError | None = None


@dataclass(eq=False, slots=True)
class _Submission:
    """One caller's items, which know it. `wake` is set when they are done or when the caller is to lead a batch.

    It does not know them: a cycle would keep their tensors until the garbage collector comes by.
    """

    call: Call
    wake: threading.Event = field(default_factory=threading.Event)
    lead: "_Batch | None" = None
    waiting: bool = False
    left: int = 0


@dataclass(eq=False, slots=True)
class _Batch:
    lanes: Lanes
    runner: Runner
    items: list[_Item]


_Key: TypeAlias = tuple[Lanes, tuple[int, ...], np.dtype[Any]]


class Batcher:
    """Runs items of many callers in shared batches, never more threads at once than the budget."""

    def __init__(self, budget: int, *, wait: float = 0.0, observer: Observer | None = None) -> None:
        """`budget`: threads. `wait`: seconds that a batch below its largest size waits for company."""
        self._free = self._budget = budget
        self._wait = wait
        self._observer = observer
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queues: dict[_Key, deque[_Item]] = {}
        self._spare = ThreadPoolExecutor(max_workers=max(1, budget), thread_name_prefix="mien-lane")
        self._closed = False

    def depth(self) -> int:
        """Items that wait for a session."""
        with self._lock:
            return sum(len(queue) for queue in self._queues.values())

    def close(self) -> None:
        """Refuse new items, finish what is queued or running (callers' deadlines bound that), end the spare threads."""
        with self._lock:
            self._closed = True
            while self._queues or self._free < self._budget:
                self._idle.wait()
        self._spare.shutdown(wait=True)

    def run(self, lanes: Lanes, tensors: Sequence[Input], call: Call) -> list[tuple[Tensor, ...]]:
        """Outputs for each of `tensors` (one item each, no batch axis), in order; blocks until all are there.

        Raises DeadlineExceeded or Cancelled as `call` says, also while queued; ModelError if the model cannot run an
        item, which never touches the other items of its batch.
        """
        if not tensors:
            return []
        call.check()
        submission = _Submission(call)
        now = time.monotonic()
        items = [_Item(np.ascontiguousarray(tensor), submission, now) for tensor in tensors]
        submission.left = len(tensors)
        with self._lock:
            if self._closed:
                raise ModelError("the engine is closed")
            for item in items:
                key = (lanes, item.tensor.shape, item.tensor.dtype)
                self._queues.setdefault(key, deque()).append(item)
            self._dispatch(submission)
        call.subscribe(submission.wake.set)
        try:
            self._follow(submission)
        finally:
            call.unsubscribe(submission.wake.set)
        for item in items:
            if item.error is not None:
                raise item.error
        return [item.outputs for item in items if item.outputs is not None]

    def _follow(self, submission: _Submission) -> None:
        """Lead what is handed over and wait until every item is done or the call is over."""
        while True:
            with self._lock:
                batch, submission.lead = submission.lead, None
                if batch is None:
                    submission.wake.clear()  # before looking: a cancel from here on wakes the wait below
                    if submission.left == 0:
                        return
                    if submission.call.over():
                        self._withdraw(submission)
                        submission.call.check()
                    submission.waiting = True
            if batch is not None:
                self._execute(batch, submission)
                continue
            submission.wake.wait(self._patience(submission.call))
            with self._lock:
                submission.waiting = False
                if self._wait and submission.lead is None:
                    self._dispatch(submission)

    def _patience(self, call: Call) -> float | None:
        remaining = call.remaining()
        if not self._wait:
            return remaining
        return self._wait if remaining is None else min(self._wait, remaining)

    def _withdraw(self, submission: _Submission) -> None:
        """Take the submission's queued items out; those already in a batch run on and are forgotten."""
        for key, queue in list(self._queues.items()):
            kept = deque(item for item in queue if item.owner is not submission)
            if kept:
                self._queues[key] = kept
            else:
                del self._queues[key]
        self._idle.notify_all()

    def _dispatch(self, current: _Submission | None) -> None:
        """Form every batch that can run now and find it a thread. Called with the lock held."""
        while (batch := self._next_batch()) is not None:
            leader = self._leader(batch, current)
            if leader is None:
                self._spare.submit(self._execute, batch, None)
            else:
                leader.lead = batch
                leader.waiting = False
                leader.wake.set()

    @staticmethod
    def _leader(batch: _Batch, current: _Submission | None) -> _Submission | None:
        """A caller that has an item in the batch and nothing else to do."""
        for item in batch.items:
            owner = item.owner
            if owner.lead is None and (owner is current or owner.waiting):
                return owner
        return None

    def _next_batch(self) -> _Batch | None:
        """The batch that should run next, if its session and threads are free. Called with the lock held."""
        now = time.monotonic()
        best: _Key | None = None
        rank: tuple[int, float] = (0, 0.0)
        for key in list(self._queues):
            lanes = key[0]
            queue = self._queues[key]
            self._drop_dead(key, queue)
            if not queue or not lanes.free or lanes.threads > self._free:
                continue
            if self._wait and len(queue) < lanes.max_batch and now - queue[0].queued < self._wait:
                continue
            candidate = (-lanes.stage, queue[0].queued)
            if best is None or candidate < rank:
                best, rank = key, candidate
        return None if best is None else self._take(best)

    def _drop_dead(self, key: _Key, queue: deque[_Item]) -> None:
        """Remove items whose callers gave up; their callers raise for themselves."""
        if any(item.owner.call.over() for item in queue):
            alive = [item for item in queue if not item.owner.call.over()]
            for item in queue:
                if item.owner.call.over():
                    item.owner.wake.set()
            queue.clear()
            queue.extend(alive)
        if not queue:
            del self._queues[key]

    def _take(self, key: _Key) -> _Batch:
        lanes, queue = key[0], self._queues[key]
        most = max(1, min(lanes.max_batch, MAX_BATCH_BYTES // max(1, queue[0].tensor.nbytes)))
        items = [queue.popleft() for _ in range(min(most, len(queue)))]
        if not queue:
            del self._queues[key]
        self._free -= lanes.threads
        return _Batch(lanes, lanes.free.pop(), items)

    def _execute(self, batch: _Batch, current: _Submission | None) -> None:
        """Run the batch, hand out its results, free its session and start what can run next."""
        started = time.monotonic()
        try:
            self._run(batch)
        finally:
            took = time.monotonic() - started
            with self._lock:
                batch.lanes.free.append(batch.runner)
                self._free += batch.lanes.threads
                for item in batch.items:
                    item.owner.left -= 1
                    if item.owner.left == 0 and item.owner is not current:
                        item.owner.wake.set()
                self._dispatch(current)
                self._idle.notify_all()
        if self._observer is not None:
            self._observer.ran(batch.lanes.name, len(batch.items), took, started - batch.items[0].queued)

    def _run(self, batch: _Batch) -> None:
        tensors = [item.tensor for item in batch.items]
        stacked = tensors[0][np.newaxis] if len(tensors) == 1 else np.stack(tensors)
        try:
            outputs = batch.runner(stacked)
            if batch.lanes.stacked and any(len(output) != len(tensors) for output in outputs):
                raise ModelError(f"{batch.lanes.name}: returned {len(outputs[0])} items for a batch of {len(tensors)}")
        except Exception as error:  # noqa: BLE001 - whatever a run raises, its callers must be told, and told apart
            self._blame(batch, error)
            return
        for index, item in enumerate(batch.items):
            item.outputs = tuple(output[index] for output in outputs) if batch.lanes.stacked else outputs

    def _blame(self, batch: _Batch, error: Exception) -> None:
        """Find the items that the model cannot run by running each alone."""
        if len(batch.items) > 1:
            for item in batch.items:
                self._run(_Batch(batch.lanes, batch.runner, [item]))
            return
        (item,) = batch.items
        item.error = (
            error if isinstance(error, MienError) else ModelError(f"{batch.lanes.name}: the run failed: {error}")
        )
