"""Dynamic batching under one thread budget.

Callers are plain threads that want a model run on a few inputs. A caller that finds a lane free runs the model in its
own thread. Otherwise it waits, and either receives its outputs from another caller's batch or becomes the leader of the
next batch. So a lone caller pays for no context switch, and many callers share model runs without a dispatcher thread.
Spare threads lead only batches that no waiting caller can: further batches of a caller that is already leading one.

A **lane** is a slot in which one batch of a model runs at a time; a model runs as many batches concurrently as it has
lanes. A run takes a fixed number of threads from the budget. A batch holds inputs of one model, shape and dtype. It
starts when a lane and its threads are free; later stages of the pipeline go first, so that images in progress are
finished before new ones are started.
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

from mien.engine.cancellation import CancelScope
from mien.errors import MienError, ModelError

Tensor: TypeAlias = NDArray[np.float32]
ModelInput: TypeAlias = NDArray[Any]
"""One model input, or a batch of them: float32 images, int64 tokens."""
Runner: TypeAlias = Callable[[ModelInput], tuple[Tensor, ...]]
MAX_BATCH_BYTES = 256 * 1024 * 1024


class Observer(Protocol):
    """Observes every model run."""

    def observe_run(self, model: str, size: int, seconds: float, waited: float) -> None:
        """A batch of `size` inputs of `model` took `seconds`; its first input had been queued for `waited` seconds."""


class Lanes:
    """One model's lanes."""

    def __init__(
        self, name: str, runners: Sequence[Runner], *, threads: int, max_batch: int, stage: int, stacked: bool = True
    ) -> None:
        """`runners`: one per lane. `threads`: taken from the budget by each run. `stage`: later stages go first.

        `stacked`: whether outputs have a batch axis. False for models that were exported for a single input.
        """
        self.name = name
        self.threads = threads
        self.max_batch = max_batch if stacked else 1
        self.stage = stage
        self.stacked = stacked
        self.free = list(runners)


@dataclass(eq=False, slots=True)
class _Entry:
    """One input in a queue or a batch, and later its outputs or its error."""

    tensor: ModelInput
    caller: "_Caller"
    queued: float
    outputs: tuple[Tensor, ...] | None = None
    error: MienError | None = None


@dataclass(eq=False, slots=True)
class _Caller:
    """A thread that is inside `Batcher.run`. `wake` is set when its entries are done or when it is to lead a batch.

    Entries know their caller, but not the other way round: a reference cycle would keep the tensors alive until the
    garbage collector runs.
    """

    scope: CancelScope
    wake: threading.Event = field(default_factory=threading.Event)
    leads: "_Batch | None" = None
    """The batch to run next."""
    waiting: bool = False
    """Whether it can lead a batch: it is waiting, or about to."""
    left: int = 0
    """Number of its entries that are not done."""


@dataclass(eq=False, slots=True)
class _Batch:
    lanes: Lanes
    runner: Runner
    entries: list[_Entry]


_Key: TypeAlias = tuple[Lanes, tuple[int, ...], np.dtype[np.generic]]


class Batcher:
    """Runs inputs of many callers in shared batches, never on more threads than the budget."""

    def __init__(self, budget: int, *, window: float = 0.0, observer: Observer | None = None) -> None:
        """`budget`: number of threads. `window`: the coalescing window, seconds that a batch waits to fill up.

        Without a window a batch starts as soon as it can, and grows only while all lanes are busy.
        """
        self._free = self._budget = budget
        self._window = window
        self._observer = observer
        # One lock for queues, lanes, budget and callers' state: every decision looks at all of them. It is never held
        # during a model run.
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queues: dict[_Key, deque[_Entry]] = {}
        self._spare = ThreadPoolExecutor(max_workers=max(1, budget), thread_name_prefix="mien-lane")
        self._closed = False

    def depth(self) -> int:
        """Number of inputs waiting for a lane."""
        with self._lock:
            return sum(len(queue) for queue in self._queues.values())

    def close(self) -> None:
        """Reject new inputs, finish queued and running ones (deadlines bound how long), end the spare threads."""
        with self._lock:
            self._closed = True
            while self._queues or self._free < self._budget:
                self._idle.wait()
        self._spare.shutdown(wait=True)

    def run(self, lanes: Lanes, tensors: Sequence[ModelInput], scope: CancelScope) -> list[tuple[Tensor, ...]]:
        """The outputs for each of `tensors` (one input each, no batch axis), in order. Blocks until all are done.

        Raises DeadlineExceeded or Cancelled once `scope` is over, also while queued; ModelError if the model fails on
        an input, which never affects other inputs in its batch.
        """
        if not tensors:
            return []
        scope.check()
        caller = _Caller(scope)
        now = time.monotonic()
        entries = [_Entry(np.ascontiguousarray(tensor), caller, now) for tensor in tensors]
        caller.left = len(tensors)
        with self._lock:
            if self._closed:
                raise ModelError("the engine is closed")
            for entry in entries:
                key = (lanes, entry.tensor.shape, entry.tensor.dtype)
                self._queues.setdefault(key, deque()).append(entry)
            self._dispatch(caller)
        # Subscribing only after queueing misses no cancellation: `subscribe` calls `wake` if it already happened.
        scope.subscribe(caller.wake.set)
        try:
            self._wait(caller)
        finally:
            scope.unsubscribe(caller.wake.set)
        for entry in entries:
            if entry.error is not None:
                raise entry.error
        return [entry.outputs for entry in entries if entry.outputs is not None]

    def _wait(self, caller: _Caller) -> None:
        """Lead the batches assigned to this caller, and wait until every entry is done or the scope is over."""
        while True:
            with self._lock:
                batch, caller.leads = caller.leads, None
                if batch is None:
                    # Clear before checking: a cancellation or a finished batch that sets the event after this point
                    # ends the wait below. Cleared after checking, it would be lost.
                    caller.wake.clear()
                    if caller.left == 0:
                        return
                    if caller.scope.over():
                        self._withdraw(caller)
                        caller.scope.check()
                    caller.waiting = True
            if batch is not None:
                # Run it even if the scope is over: the batch holds a lane, and other callers' inputs.
                self._execute(batch, caller)
                continue
            caller.wake.wait(self._wait_seconds(caller.scope))
            with self._lock:
                # From here on no other thread can make this one a leader.
                caller.waiting = False
                # The window has no timer thread: each waiting caller checks whether a batch may start now.
                if self._window and caller.leads is None:
                    self._dispatch(caller)

    def _wait_seconds(self, scope: CancelScope) -> float | None:
        remaining = scope.remaining()
        if not self._window:
            return remaining
        return self._window if remaining is None else min(self._window, remaining)

    def _withdraw(self, caller: _Caller) -> None:
        """Dequeue the caller's entries; those already in a batch are run to the end and their outputs dropped."""
        for key, queue in list(self._queues.items()):
            kept = deque(entry for entry in queue if entry.caller is not caller)
            if kept:
                self._queues[key] = kept
            else:
                del self._queues[key]
        self._idle.notify_all()

    def _dispatch(self, current: _Caller | None) -> None:
        """Form every batch that can run now and assign each to a thread. Called with the lock held."""
        while (batch := self._next_batch()) is not None:
            leader = self._leader(batch, current)
            if leader is None:
                self._spare.submit(self._execute, batch, None)
            else:
                leader.leads = batch
                leader.waiting = False
                leader.wake.set()

    @staticmethod
    def _leader(batch: _Batch, current: _Caller | None) -> _Caller | None:
        """An idle caller with an entry in the batch, or None.

        `current` is the dispatching thread: it is not marked as waiting, but is about to check `leads`.
        """
        for entry in batch.entries:
            caller = entry.caller
            if caller.leads is None and (caller is current or caller.waiting):
                return caller
        return None

    def _next_batch(self) -> _Batch | None:
        """The batch that should run next, if a lane and its threads are free. Called with the lock held."""
        now = time.monotonic()
        best: _Key | None = None
        rank: tuple[int, float] = (0, 0.0)
        for key in list(self._queues):
            lanes = key[0]
            queue = self._queues[key]
            self._drop_abandoned(key, queue)
            if not queue or not lanes.free or lanes.threads > self._free:
                continue
            if self._window and len(queue) < lanes.max_batch and now - queue[0].queued < self._window:
                continue
            candidate = (-lanes.stage, queue[0].queued)
            if best is None or candidate < rank:
                best, rank = key, candidate
        return None if best is None else self._take(best)

    def _drop_abandoned(self, key: _Key, queue: deque[_Entry]) -> None:
        """Remove entries whose scope is over; their callers wake up and raise for themselves."""
        # Hardly ever is an entry abandoned: the common case is a single pass without building a list.
        if any(entry.caller.scope.over() for entry in queue):
            alive = [entry for entry in queue if not entry.caller.scope.over()]
            for entry in queue:
                if entry.caller.scope.over():
                    entry.caller.wake.set()
            queue.clear()
            queue.extend(alive)
        if not queue:
            del self._queues[key]

    def _take(self, key: _Key) -> _Batch:
        lanes, queue = key[0], self._queues[key]
        most = max(1, min(lanes.max_batch, MAX_BATCH_BYTES // max(1, queue[0].tensor.nbytes)))
        entries = [queue.popleft() for _ in range(min(most, len(queue)))]
        if not queue:
            del self._queues[key]
        self._free -= lanes.threads
        return _Batch(lanes, lanes.free.pop(), entries)

    def _execute(self, batch: _Batch, current: _Caller | None) -> None:
        """Run the batch, distribute its outputs, free its lane and start the next batches."""
        started = time.monotonic()
        try:
            self._run(batch)
        finally:
            took = time.monotonic() - started
            with self._lock:
                # Free the lane before dispatching: the next batch may need this very lane, and this caller as leader.
                batch.lanes.free.append(batch.runner)
                self._free += batch.lanes.threads
                for entry in batch.entries:
                    entry.caller.left -= 1
                    if entry.caller.left == 0 and entry.caller is not current:
                        entry.caller.wake.set()
                self._dispatch(current)
                self._idle.notify_all()
        if self._observer is not None:
            self._observer.observe_run(batch.lanes.name, len(batch.entries), took, started - batch.entries[0].queued)

    def _run(self, batch: _Batch) -> None:
        tensors = [entry.tensor for entry in batch.entries]
        stacked = tensors[0][np.newaxis] if len(tensors) == 1 else np.stack(tensors)
        try:
            outputs = batch.runner(stacked)
            if batch.lanes.stacked and any(len(output) != len(tensors) for output in outputs):
                raise ModelError(f"{batch.lanes.name}: returned {len(outputs[0])} items for a batch of {len(tensors)}")
        except Exception as error:  # noqa: BLE001 - whatever a run raises, each of its callers must get it
            self._isolate(batch, error)
            return
        for index, entry in enumerate(batch.entries):
            entry.outputs = tuple(output[index] for output in outputs) if batch.lanes.stacked else outputs

    def _isolate(self, batch: _Batch, error: Exception) -> None:
        """Run each input alone, so that only the ones the model fails on get the error."""
        if len(batch.entries) > 1:
            for entry in batch.entries:
                self._run(_Batch(batch.lanes, batch.runner, [entry]))
            return
        (entry,) = batch.entries
        entry.error = (
            error if isinstance(error, MienError) else ModelError(f"{batch.lanes.name}: the run failed: {error}")
        )
