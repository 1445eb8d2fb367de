"""Which slot a run gets, which workers are evicted, and which exceed the idle timeout: without any process."""

import asyncio
from typing import Any, cast

import pytest

from mien.errors import NoResources, Unavailable
from mien.workers.fit import Fit
from mien.workers.placement import LocalPlacement, Need
from mien.workers.slots import Slots, WorkerKey, WorkerSlot
from mien.workers.worker import Worker

SMALL = Need(100)
A = WorkerKey("a", "1")
A_OTHER_SETUP = WorkerKey("a", "1", setup_key="other")
B = WorkerKey("b", "1b")
C = WorkerKey("c", "1c")
SESSION = WorkerKey("a", "1", session_id="s")


class Running:
    """What a slot needs to know of a running worker."""

    def __init__(self, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.gone = asyncio.Event()


class World:
    """Slots, and a clock that is set manually."""

    def __init__(self, *, workers: int = 2, memory: int = 1000, gpus: int = 0) -> None:
        self.now = 100.0
        self.slots = Slots(LocalPlacement(workers=workers, memory=memory, gpus=gpus), clock=lambda: self.now)

    def start(self, key: WorkerKey, need: Need = SMALL, *, concurrency: int = 1) -> WorkerSlot:
        """A slot whose worker is running and busy with one run."""
        slot = self.slots.reserve(key, need).slot
        slot.worker = cast(Worker, Running(concurrency))
        slot.ready = True
        return slot

    def idle(self, key: WorkerKey, need: Need = SMALL, **options: Any) -> WorkerSlot:
        """A slot whose worker has just finished its run."""
        slot = self.start(key, need, **options)
        self.slots.release(slot)
        self.now += 1
        return slot


@pytest.fixture
def world() -> World:
    return World()


def test_a_run_is_cold_until_its_environment_is_built(world: World) -> None:
    assert world.slots.fit(A, SMALL) is Fit.COLD
    assert world.slots.fit(A, SMALL, has_environment=True) is Fit.ENVIRONMENT


def test_a_warm_worker_is_reused(world: World) -> None:
    slot = world.idle(A)
    assert world.slots.fit(A, SMALL) is Fit.WARM
    assert world.slots.reserve(A, SMALL).slot is slot
    assert slot.load == 1


def test_a_busy_worker_is_not_shared_beyond_its_concurrency(world: World) -> None:
    slot = world.start(A, concurrency=2)
    assert world.slots.reserve(A, SMALL).slot is slot
    assert world.slots.reserve(A, SMALL).slot is not slot


def test_a_worker_that_is_still_starting_is_not_shared(world: World) -> None:
    starting = world.slots.reserve(A, SMALL).slot
    assert world.slots.reserve(A, SMALL).slot is not starting
    assert world.slots.fit(A, SMALL) is Fit.NO_CAPACITY


def test_another_setup_of_the_version_is_evicted_before_workers_that_were_idle_for_longer(world: World) -> None:
    longest = world.idle(B)
    same_version = world.idle(A)
    assert world.slots.fit(A_OTHER_SETUP, SMALL) is Fit.SAME_VERSION
    reservation = world.slots.reserve(A_OTHER_SETUP, SMALL)
    assert reservation.evicted == (same_version,)
    assert longest in world.slots


def test_of_other_apps_the_one_that_was_idle_for_longest_is_evicted(world: World) -> None:
    first, second = world.idle(A), world.idle(B)
    assert world.slots.reserve(C, SMALL).evicted == (first,)
    assert [slot.key for slot in world.slots] == [second.key, C]


def test_an_evicted_worker_is_drained_and_waited_for_by_the_one_that_comes(world: World) -> None:
    world.idle(A)
    world.idle(B)
    reservation = world.slots.reserve(C, SMALL)
    (evicted,) = reservation.evicted
    assert evicted.draining
    assert reservation.slot.predecessors == [evicted]


def test_the_resources_of_an_evicted_worker_cannot_be_claimed_by_others(world: World) -> None:
    world.start(A)
    world.idle(B)
    world.slots.reserve(C, SMALL)
    assert world.slots.fit(B, SMALL) is Fit.NO_CAPACITY


def test_only_as_many_are_evicted_as_necessary() -> None:
    world = World(workers=4, memory=300)
    slots = [world.idle(key) for key in (A, B, C)]
    assert world.slots.reserve(WorkerKey("d", "1d"), Need(200)).evicted == tuple(slots[:2])


def test_busy_workers_and_sessions_are_never_evicted(world: World) -> None:
    world.start(A)
    world.idle(SESSION)
    assert world.slots.fit(B, SMALL) is Fit.NO_CAPACITY
    with pytest.raises(Unavailable):
        world.slots.reserve(B, SMALL)


def test_what_does_not_fit_on_an_idle_machine_never_does(world: World) -> None:
    assert world.slots.fit(A, Need(2000)) is Fit.NEVER
    with pytest.raises(NoResources):
        world.slots.reserve(A, Need(2000))


def test_a_busy_session_blocks_its_next_run_even_if_there_is_capacity(world: World) -> None:
    slot = world.start(SESSION)
    assert world.slots.fit(SESSION, SMALL) is Fit.BLOCKED
    world.slots.release(slot)
    assert world.slots.fit(SESSION, SMALL) is Fit.WARM


def test_gpus_are_handed_out_one_worker_each() -> None:
    world = World(gpus=2)
    first = world.idle(A, Need(100, 1))
    second = world.idle(B, Need(100, 1))
    assert (first.grant.gpu_ids, second.grant.gpu_ids) == ((0,), (1,))
    assert world.slots.reserve(C, Need(100, 1)).slot.grant.gpu_ids == (0,)


def test_a_draining_worker_takes_no_runs(world: World) -> None:
    slot = world.idle(A)
    slot.draining = True
    assert world.slots.fit(A, SMALL) is Fit.COLD
    assert world.slots.reserve(A, SMALL).slot is not slot


def test_a_slot_whose_worker_dies_idle_is_free(world: World) -> None:
    slot = world.idle(A)
    world.slots.worker_ended(slot)
    world.slots.worker_ended(slot)  # told by its run and by its watcher
    assert list(world.slots) == []
    assert world.slots.reserve(A, Need(1000)).evicted == ()


def test_a_slot_whose_worker_dies_with_reservations_stays_for_their_worker(world: World) -> None:
    slot = world.start(A)
    world.slots.worker_ended(slot)
    assert slot in world.slots
    assert slot.state == "leaving"
    assert world.slots.fit(A, Need(1000)) is Fit.NO_CAPACITY


def test_idleness_ends_what_was_idle_for_so_long(world: World) -> None:
    old, young = world.idle(A), world.idle(B)
    world.now = old.released_at + 10
    assert world.slots.expired(10, 0) == [old]
    world.now += 10
    assert world.slots.expired(10, 0) == [young, old]


def test_busy_workers_do_not_expire(world: World) -> None:
    world.start(A)
    world.now += 1000
    assert world.slots.expired(10, 0) == []


def test_of_each_version_the_last_used_stay(world: World) -> None:
    first, last = world.start(A), world.start(A)
    for slot in (first, last):
        world.slots.release(slot)
        world.now += 1
    world.now += 1000
    assert world.slots.expired(10, 1) == [first]
    assert world.slots.expired(10, 2) == []


def test_a_session_ends_after_its_own_idle_time_and_no_minimum_keeps_it(world: World) -> None:
    slot = world.idle(SESSION)
    slot.idle_seconds = 5
    world.now = slot.released_at + 4
    assert world.slots.expired(300, 1) == []
    world.now += 1
    assert world.slots.expired(300, 1) == [slot]
    assert world.slots.keep_session("s")
    assert world.slots.expired(300, 1) == []
    assert not world.slots.keep_session("unknown")


def test_slots_are_counted_by_app_and_state() -> None:
    world = World(workers=4)
    world.idle(A)
    world.start(B)
    world.slots.reserve(C, SMALL)
    assert world.slots.states() == {("a", "idle"): 1, ("b", "busy"): 1, ("c", "starting"): 1}
