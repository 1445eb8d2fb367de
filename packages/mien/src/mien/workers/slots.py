"""Worker slots and the choice of a slot for a run: bookkeeping only; starts and ends no processes."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from mien.errors import NoResources, Unavailable
from mien.workers.fit import Fit
from mien.workers.placement import Grant, Need, Placement
from mien.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """Runs with equal keys can use the same worker without another setup."""

    app: str
    version: str
    variant: str = "default"
    setup_key: str = ""
    session_id: str | None = None


@dataclass(eq=False, slots=True)
class WorkerSlot:
    """The resources for one worker, and the worker itself once it runs.

    Starting until `ready`, then idle or busy; `draining` once its worker is to be ended.
    """

    name: str
    key: WorkerKey
    grant: Grant
    worker: Worker | None = None
    load: int = 0
    """Number of runs and reservations."""
    released_at: float = 0.0
    """When it was last released, in seconds of the monotonic clock."""
    idle_seconds: float | None = None
    """Overrides the idle timeout of the settings, for sessions."""
    ready: bool = False
    draining: bool = False
    predecessors: "list[WorkerSlot]" = field(default_factory=list)
    """The slots evicted for this one. Their resources are claimed for this slot already, but still in use: their
    processes must have ended before a worker starts here. Cleared then."""
    start_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a worker is brought up: if a worker dies, several runs may be waiting in its slot for the next one."""

    @property
    def free(self) -> bool:
        """Whether another run can start here immediately."""
        return self.ready and not self.draining and self.worker is not None and self.load < self.worker.concurrency

    @property
    def idle(self) -> bool:
        return self.ready and not self.draining and self.load == 0

    @property
    def state(self) -> str:
        """`starting`, `idle` (warm), `busy` or `leaving` (draining): values of a label of the metric mien_workers."""
        if self.draining:
            return "leaving"
        return "starting" if not self.ready else "busy" if self.load else "idle"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot for one run, and the slots whose idle workers must end for it."""

    slot: WorkerSlot
    evicted: tuple[WorkerSlot, ...] = ()


class Slots:
    """All slots of this server. Used on one event loop; nothing here awaits, so no lock is needed."""

    def __init__(self, placement: Placement, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._placement = placement
        self._clock = clock
        self._slots: list[WorkerSlot] = []
        self._numbers = count(1)

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(tuple(self._slots))

    def __contains__(self, slot: WorkerSlot) -> bool:
        return slot in self._slots

    def fit(self, key: WorkerKey, need: Need, *, has_environment: bool = False) -> Fit:
        """How well a run with this key would be placed now."""
        same = [slot for slot in self._slots if slot.key == key and not slot.draining]
        if any(slot.free for slot in same):
            return Fit.WARM
        if same and key.session_id is not None:
            return Fit.BLOCKED  # a session's state is in one worker: capacity elsewhere does not help
        if self._placement.lacks(need) is not None:
            return Fit.NEVER
        if self._evictable(key, need) is None:
            return Fit.NO_CAPACITY
        if any(slot.key.version == key.version and slot.idle for slot in self._slots):
            return Fit.SAME_VERSION
        return Fit.ENVIRONMENT if has_environment else Fit.COLD

    def reserve(self, key: WorkerKey, need: Need) -> Reservation:
        """Reserve a slot for one run. Evicted slots are already removed here; the caller ends their workers.

        Raises NoResources if it can never fit, Unavailable if it does not fit now.
        """
        if (lack := self._placement.lacks(need)) is not None:
            raise NoResources(lack)
        for slot in self._slots:
            if slot.key == key and slot.free:
                slot.load += 1
                return Reservation(slot)
        evicted = self._evictable(key, need)
        if evicted is None:
            raise Unavailable("there is no capacity for another worker")
        for victim in evicted:
            # Its resources are claimed for the new slot right away: if they were free until the process is gone,
            # another run could claim them.
            victim.draining = True
            self.remove(victim)
        slot = WorkerSlot(f"worker-{next(self._numbers)}", key, self._placement.claim(need), load=1)
        slot.predecessors = evicted
        self._slots.append(slot)
        return Reservation(slot, tuple(evicted))

    def release(self, slot: WorkerSlot) -> None:
        """Remove one run or reservation."""
        slot.load -= 1
        slot.released_at = self._clock()

    def remove(self, slot: WorkerSlot) -> None:
        """Remove the slot and release its resources. Idempotent."""
        if slot in self._slots:
            self._slots.remove(slot)
            self._placement.release(slot.grant)

    def worker_ended(self, slot: WorkerSlot) -> None:
        """Record that the slot's worker has ended. The slot stays while it has reservations: the first of them starts
        another worker."""
        slot.ready = False
        if slot.load == 0:
            self.remove(slot)
        else:
            slot.draining = True

    def expired(self, idle_seconds: float, min_warm: int) -> list[WorkerSlot]:
        """Slots beyond their idle timeout, except the `min_warm` most recently used of each version."""
        now, kept, found = self._clock(), Counter[str](), []
        for slot in sorted(self._slots, key=lambda slot: -slot.released_at):
            limit = idle_seconds if slot.idle_seconds is None else slot.idle_seconds
            needed = slot.key.session_id is None and kept[slot.key.version] < min_warm
            if slot.idle and now - slot.released_at >= limit and not needed:
                found.append(slot)
            else:
                kept[slot.key.version] += 1
        return found

    def of_session(self, session_id: str) -> list[WorkerSlot]:
        """The slots of a session, including draining ones."""
        return [slot for slot in self._slots if slot.key.session_id == session_id]

    def keep_session(self, session_id: str) -> bool:
        """Restart the idle timeout of the session's worker. Returns whether there is one."""
        found = [slot for slot in self.of_session(session_id) if not slot.draining]
        for slot in found:
            slot.released_at = self._clock()
        return bool(found)

    def states(self) -> Counter[tuple[str, str]]:
        """Number of slots by app and state."""
        return Counter((slot.key.app, slot.state) for slot in self._slots)

    def _evictable(self, key: WorkerKey, need: Need) -> list[WorkerSlot] | None:
        """The idle workers to evict so that one more fits; None if evicting all would not suffice.

        First those of the same version (with another setup), then the longest idle. Sessions are spared, since their
        state would be lost.
        """
        chosen: list[WorkerSlot] = []
        idle = [slot for slot in self._slots if slot.idle and slot.key.session_id is None]
        idle.sort(key=lambda slot: (slot.key.version != key.version, slot.released_at))
        while not self._placement.fits(need, [slot.grant for slot in chosen]):
            if not idle:
                return None
            chosen.append(idle.pop(0))
        return chosen
