"""Which workers there are, and which slot a run gets: bookkeeping only, nothing is started or ended here."""

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
    """Runs with equal keys can share a worker without setting it up again."""

    app: str
    version: str
    variant: str = "default"
    setup_key: str = ""
    session_id: str | None = None


@dataclass(eq=False, slots=True)
class WorkerSlot:
    """Room for one worker, and the worker once it is up.

    It is starting until `ready`, then idle or busy; `draining` from the decision to end its worker on.
    """

    name: str
    key: WorkerKey
    grant: Grant
    worker: Worker | None = None
    load: int = 0
    """Runs and reservations."""
    released_at: float = 0.0
    """When a run was last given back, seconds of the monotonic clock."""
    idle_seconds: float | None = None
    """Overrides the server's setting: how long a session lives without runs."""
    ready: bool = False
    draining: bool = False
    predecessors: "list[WorkerSlot]" = field(default_factory=list)
    """Those that were evicted for this one. Their room is this one's already, but their processes still hold it: they
    have to be gone before a worker starts here. Forgotten then."""
    start_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a worker is brought up: several runs may have been reserved when the one before died."""

    @property
    def free(self) -> bool:
        """Whether another run can start here at once."""
        return self.ready and not self.draining and self.worker is not None and self.load < self.worker.concurrency

    @property
    def idle(self) -> bool:
        return self.ready and not self.draining and self.load == 0

    @property
    def state(self) -> str:
        """`starting`, `idle` (warm), `busy` or `leaving`: a label of the metric mien_workers."""
        if self.draining:
            return "leaving"
        return "starting" if not self.ready else "busy" if self.load else "idle"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot for one run, and the slots whose idle workers have to end for it."""

    slot: WorkerSlot
    evicted: tuple[WorkerSlot, ...] = ()


class Slots:
    """Every slot of this server. One event loop; nothing here waits, so nothing here needs a lock."""

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
            return Fit.BLOCKED  # a session's state is in one worker: no room elsewhere is of use to it
        if self._placement.lacks(need) is not None:
            return Fit.NEVER
        if self._evictable(key, need) is None:
            return Fit.NO_ROOM
        if any(slot.key.version == key.version and slot.idle for slot in self._slots):
            return Fit.SAME_VERSION
        return Fit.ENVIRONMENT if has_environment else Fit.COLD

    def reserve(self, key: WorkerKey, need: Need) -> Reservation:
        """The slot that `fit` has just spoken of. What it evicts has left these slots; its workers are to be ended.

        Raises NoResources where it would never fit, Unavailable where there is no room now.
        """
        if (lack := self._placement.lacks(need)) is not None:
            raise NoResources(lack)
        for slot in self._slots:
            if slot.key == key and slot.free:
                slot.load += 1
                return Reservation(slot)
        evicted = self._evictable(key, need)
        if evicted is None:
            raise Unavailable("there is no room for another worker")
        for victim in evicted:
            # Its room is the new slot's from here on: were it free until the process is gone, others could take it.
            victim.draining = True
            self.remove(victim)
        slot = WorkerSlot(f"worker-{next(self._numbers)}", key, self._placement.claim(need), load=1)
        slot.predecessors = evicted
        self._slots.append(slot)
        return Reservation(slot, tuple(evicted))

    def release(self, slot: WorkerSlot) -> None:
        """One run or reservation less."""
        slot.load -= 1
        slot.released_at = self._clock()

    def remove(self, slot: WorkerSlot) -> None:
        """Forget the slot and give its room back. Nothing happens when that was done before."""
        if slot in self._slots:
            self._slots.remove(slot)
            self._placement.release(slot.grant)

    def worker_ended(self, slot: WorkerSlot) -> None:
        """The slot has no worker any more. With reservations left it stays: the first of them starts another one."""
        slot.ready = False
        if slot.load == 0:
            self.remove(slot)
        else:
            slot.draining = True

    def expired(self, idle_seconds: float, min_warm: int) -> list[WorkerSlot]:
        """Slots that were idle for so long, but for the `min_warm` of each version that were used last."""
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
        """The slots of a session, draining ones included."""
        return [slot for slot in self._slots if slot.key.session_id == session_id]

    def keep_session(self, session_id: str) -> bool:
        """Begin the idle time of the session's worker anew. Returns whether there is one."""
        found = [slot for slot in self.of_session(session_id) if not slot.draining]
        for slot in found:
            slot.released_at = self._clock()
        return bool(found)

    def states(self) -> Counter[tuple[str, str]]:
        """How many slots there are by app and state."""
        return Counter((slot.key.app, slot.state) for slot in self._slots)

    def _evictable(self, key: WorkerKey, need: Need) -> list[WorkerSlot] | None:
        """The idle workers that must go for one more; None if even that is not enough.

        First another setup of the same version, then whoever was idle for longest. Sessions stay: their state would
        be lost.
        """
        chosen: list[WorkerSlot] = []
        idle = [slot for slot in self._slots if slot.idle and slot.key.session_id is None]
        idle.sort(key=lambda slot: (slot.key.version != key.version, slot.released_at))
        while not self._placement.fits(need, [slot.grant for slot in chosen]):
            if not idle:
                return None
            chosen.append(idle.pop(0))
        return chosen
