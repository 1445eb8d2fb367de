"""The warm pool: every worker of this server, who uses it, and which one has to go when room is needed."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol

from mien.apps.environment import Environment, Environments, EnvironmentSpec
from mien.apps.manifest import Variant
from mien.apps.process import ProcessLimits
from mien.apps.record import Deployed
from mien.errors import InvalidField, MienError, NoResources, Unavailable
from mien.metrics import Metrics
from mien.settings import Workers
from mien.workers.crashes import CrashBreaker
from mien.workers.fit import Fit
from mien.workers.household import Household
from mien.workers.listener import AppError, Listener, RunCancelled, WorkerGone
from mien.workers.placement import Grant, Need, Placement, gpu_variables
from mien.workers.supervisor import Worker, WorkerSpec

UNLOAD_SECONDS = 5.0
TICK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """Runs with equal keys can share a worker without setting it up again."""

    app: str
    version: str
    variant: str = "default"
    setup_key: str = ""
    session_id: str | None = None


class Stage(IntEnum):
    """What a place is doing; the listener hears of each but IDLE."""

    PREPARING = 1
    STARTING = 2
    SETTING_UP = 3
    RUNNING = 4


@dataclass(eq=False, slots=True)
class Place:
    """Room for one worker, and the worker once it is up."""

    name: str
    key: WorkerKey
    grant: Grant
    worker: Worker | None = None
    load: int = 0
    """Runs and reservations."""
    used: float = 0.0
    """When it was last given back."""
    idle_seconds: float | None = None
    """Overrides the server's setting: how long a session lives without runs."""
    ready: bool = False
    leaving: bool = False
    victims: "list[Place]" = field(default_factory=list)
    """Workers that have to be gone before this one starts; forgotten then."""
    rising: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a worker is brought up: several runs may have been reserved when the one before died."""

    @property
    def free(self) -> bool:
        """Whether another run can start here at once."""
        return self.ready and not self.leaving and self.worker is not None and self.load < self.worker.concurrency

    @property
    def idle(self) -> bool:
        return self.ready and not self.leaving and self.load == 0

    @property
    def state(self) -> str:
        """`starting`, `idle` (warm), `busy` or `leaving`."""
        if self.leaving:
            return "leaving"
        return "starting" if not self.ready else "busy" if self.load else "idle"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one function."""

    run_id: str
    deployed: Deployed
    variant: str
    function: str | None
    setup: Any
    metadata: dict[str, Any]
    session_seconds: float | None = None


class PoolListener(Listener, Protocol):
    """Hears of the stages, too."""

    def stage(self, stage: Stage) -> None:
        """The job is now being prepared, started, set up or run. Stages that are not needed are left out."""


Prepare = Callable[[Worker], Awaitable[Any]]
"""Makes the input for that worker: files in its folder."""
Finish = Callable[[Worker, Any], Awaitable[Any]]
"""Makes the final output of what the worker answered, while its files are still there."""


class WorkerPool:
    """All workers. One event loop; nothing here needs a lock."""

    def __init__(
        self,
        settings: Workers,
        placement: Placement,
        environments: Environments,
        household: Household,
        *,
        metrics: Metrics | None = None,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._placement = placement
        self._environments = environments
        self._household = household
        self._metrics = metrics or Metrics()
        self._metrics.workers.count = self.states
        self._on_room = on_room
        self._places: list[Place] = []
        self._names = itertools.count(1)
        self._breaker = CrashBreaker(settings.app_crashes)
        self._made: dict[tuple[str, str], Environment] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    # --- choosing a place: fast, synchronous

    def fit(self, key: WorkerKey, need: Need) -> Fit:
        """How well a run with this key would be placed now."""
        if self._closed:
            return Fit.NO_ROOM
        same = [place for place in self._places if place.key == key and not place.leaving]
        if any(place.free for place in same):
            return Fit.WARM
        if same and key.session_id is not None:
            return Fit.BLOCKED  # a session's state is in one worker: no room elsewhere is of use to it
        if self._placement.lacks(need) is not None:
            return Fit.NEVER
        if self._victims(key, need) is None:
            return Fit.NO_ROOM
        if any(place.key.version == key.version and place.idle for place in self._places):
            return Fit.SAME_VERSION
        return Fit.ENVIRONMENT if (key.version, key.variant) in self._made else Fit.COLD

    def reserve(self, key: WorkerKey, need: Need) -> Place:
        """Take the place that `fit` has just spoken of; idle workers in its way go. Raises NoResources."""
        if (lack := self._placement.lacks(need)) is not None:
            raise NoResources(lack)
        for place in self._places:
            if place.key == key and place.free:
                place.load += 1
                return place
        victims = self._victims(key, need)
        if self._closed or victims is None:
            raise Unavailable("there is no room for another worker")
        for victim in victims:
            self._evict(victim, "room")
            self._drop(victim)  # its room is this one's, which waits until the process is gone
        name = f"worker-{next(self._names)}"
        place = Place(name, key, self._placement.claim(need), load=1, victims=victims)
        self._places.append(place)
        return place

    def release(self, place: Place) -> None:
        """Give a reservation, or a finished run, back."""
        place.load -= 1
        place.used = time.monotonic()
        if place.load == 0 and not place.ready:
            self._vacate(place)
        self._on_room()

    def _vacate(self, place: Place) -> None:
        """Give up a place that has no worker yet: its room is free once those that had it before are gone."""
        left = [found for victim in place.victims if (found := victim.worker) is not None and not found.gone.is_set()]
        if not left:
            self._drop(place)
            return
        place.leaving = True

        async def wait() -> None:
            for worker in left:
                await worker.gone.wait()
            self._drop(place)
            self._on_room()

        self._keep(wait())

    def _victims(self, key: WorkerKey, need: Need) -> list[Place] | None:
        """The idle workers that must go for one more; None if even that is not enough.

        First another setup of the same version, then whoever was idle for longest. Sessions stay.
        """
        chosen: list[Place] = []
        idle = [place for place in self._places if place.idle and place.key.session_id is None]
        idle.sort(key=lambda place: (place.key.version != key.version, place.used))
        while not self._placement.fits(need, [place.grant for place in chosen]):
            if not idle:
                return None
            chosen.append(idle.pop(0))
        return chosen

    # --- running

    async def run(self, place: Place, job: Job, listener: PoolListener, prepare: Prepare, finish: Finish) -> Any:
        """Run the job in a reserved place, give the place back, and return the output.

        Raises AppError, RunCancelled, WorkerGone, MienError. When this ends, the worker is idle again or its process is
        dead. If the caller is cancelled, the worker is killed.
        """
        try:
            async with place.rising:
                if not place.ready:
                    await self._bring_up(place, job, listener)
                worker = place.worker
            assert worker is not None  # noqa: S101 - ready
            value = await _with_files(worker, prepare(worker))
            output = await self._run(place, worker, job, value, listener)
            return await _with_files(worker, finish(worker, output))
        finally:
            if place.worker is not None and place.worker.gone.is_set():
                self._gone(place)
            self.release(place)

    async def _run(self, place: Place, worker: Worker, job: Job, value: Any, listener: PoolListener) -> Any:
        listener.stage(Stage.RUNNING)
        place.idle_seconds = job.session_seconds
        try:
            output = await worker.run(job.run_id, job.function, value, job.metadata, listener)
        except (AppError, RunCancelled):
            self._breaker.worked(job.deployed)
            raise
        except WorkerGone:
            raise
        except BaseException:
            await worker.put_down()
            raise
        self._breaker.worked(job.deployed)
        return output

    async def _bring_up(self, place: Place, job: Job, listener: PoolListener) -> None:
        version = job.deployed.version
        place.leaving = False  # it was, if its worker died after the reservation
        self._breaker.check(job.deployed)
        variant = version.manifest.variant(job.variant)
        if variant is None:
            raise InvalidField(f"{version.app} has no variant {job.variant}; it has {', '.join(version.variants)}")
        variables = self._variables(job.deployed, variant)
        listener.stage(Stage.PREPARING)
        for victim in place.victims:
            if victim.worker is not None:
                await victim.worker.gone.wait()
        place.victims.clear()
        environment = await self._environment(job, variant, listener)
        listener.stage(Stage.STARTING)
        spec = WorkerSpec(
            place.name,
            environment,
            job.deployed.content,
            self._household.folder / place.name,
            ProcessLimits(place.grant.need.memory),
            {**variables, **gpu_variables(place.grant), "WORKER_ID": place.name},
            self._settings.app_start_seconds,
            self._settings.app_setup_seconds,
            self._household.family,
        )
        starts, outcome = self._metrics.worker_starts, "failed"
        try:
            place.worker = worker = await self._placement.start(spec, place.grant, listener)
            await self._set_up(worker, job, listener)
            outcome = "ready"
        except WorkerGone as gone:
            self._note_end(job.deployed, gone)
            raise
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        finally:
            starts.labels(version.app, outcome).inc()
        place.ready = True
        self._watch(place, worker, job.deployed)

    async def _set_up(self, worker: Worker, job: Job, listener: PoolListener) -> None:
        listener.stage(Stage.SETTING_UP)
        try:
            seconds = await worker.setup(job.setup, job.metadata, listener)
        except BaseException:
            await worker.put_down()
            raise
        self._metrics.worker_setup_seconds.labels(job.deployed.version.app).observe(seconds)

    async def _environment(self, job: Job, variant: Variant, listener: Listener) -> Environment:
        version = job.deployed.version
        key = (version.version, job.variant)
        environment = self._made.get(key)
        if environment is None or not environment.python.exists():
            environment = await self._environments.ensure(EnvironmentSpec.of(job.deployed, variant), listener.log)
            self._made[key] = environment
        return environment

    def _variables(self, deployed: Deployed, variant: Variant) -> dict[str, str]:
        version = deployed.version
        found = {"APP_ID": version.app, "APP_VERSION_ID": version.version, **variant.env}
        for secret in version.manifest.secrets:
            value = self._settings.app_secrets.get(secret.key)
            if value is not None:
                found[secret.key] = value.get_secret_value()
            elif not secret.optional:
                raise Unavailable(
                    f"{version.app} needs the secret {secret.key}; the operator sets it in MIEN_APP_SECRETS"
                )
        return found

    # --- leaving

    def _watch(self, place: Place, worker: Worker, deployed: Deployed) -> None:
        """Notice the worker's end, also while it is idle. A crash counts once, however many runs it took along."""

        async def watch() -> None:
            await worker.gone.wait()
            if worker.why is not None:
                self._note_end(deployed, worker.why)
            if place in self._places and place.worker is worker:
                self._gone(place)
                self._on_room()

        self._keep(watch())

    def _note_end(self, deployed: Deployed, gone: WorkerGone) -> None:
        if not gone.told:
            self._breaker.crashed(deployed, gone.reason)
            self._metrics.worker_crashes.labels(deployed.version.app, gone.kind).inc()

    def _gone(self, place: Place) -> None:
        place.ready = False
        if place.load == 0:
            self._drop(place)
        else:
            place.leaving = True

    def _drop(self, place: Place) -> None:
        if place in self._places:
            self._places.remove(place)
            self._placement.release(place.grant)

    def _evict(self, place: Place, reason: Literal["room", "idle", "session", "shutdown"]) -> None:
        """End an idle worker; its room is free once its process is gone."""
        self._metrics.worker_evictions.labels(place.key.app, reason).inc()
        place.leaving = True
        if place.worker is not None:
            self._keep(place.worker.end(UNLOAD_SECONDS))

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def start(self) -> None:
        """Begin to end workers that were idle for long."""
        self._ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for place in list(self._expired(time.monotonic())):
                self._evict(place, "idle")

    def _expired(self, now: float) -> Iterable[Place]:
        kept: dict[str, int] = {}
        for place in sorted(self._places, key=lambda place: -place.used):
            limit = self._settings.app_idle_seconds if place.idle_seconds is None else place.idle_seconds
            if (
                not place.idle
                or now - place.used < limit
                or (place.key.session_id is None and kept.get(place.key.version, 0) < self._settings.app_min_warm)
            ):
                kept[place.key.version] = kept.get(place.key.version, 0) + 1
            else:
                yield place

    def end_session(self, session_id: str) -> bool:
        """End the session's worker if it is idle; it is gone soon. Returns whether there was one."""
        found = [place for place in self._places if place.key.session_id == session_id]
        for place in found:
            if place.idle:
                self._evict(place, "session")
            else:
                place.idle_seconds = 0.0
        return bool(found)

    def has_session(self, session_id: str) -> bool:
        """Whether the session's worker, and so its state, is still there."""
        return any(place.key.session_id == session_id and not place.leaving for place in self._places)

    def keep_session(self, session_id: str) -> bool:
        """Begin the idle time of the session's worker anew. Returns whether there is one."""
        found = [place for place in self._places if place.key.session_id == session_id and not place.leaving]
        for place in found:
            place.used = time.monotonic()
        return bool(found)

    @property
    def places(self) -> tuple[Place, ...]:
        """Every worker that is up or starting."""
        return tuple(self._places)

    def states(self) -> Counter[tuple[str, str]]:
        """How many workers there are by app and state."""
        return Counter((place.key.app, place.state) for place in self._places)

    async def close(self) -> None:
        """End all workers: the idle ones unload, the others are killed."""
        self._closed = True
        if self._ticker is not None:
            self._ticker.cancel()
        for place in self.places:
            if place.idle:
                self._evict(place, "shutdown")
            elif place.worker is not None:
                place.worker.kill()
                await place.worker.gone.wait()
        while self._leaving:
            await asyncio.wait(set(self._leaving))
        await asyncio.to_thread(self._household.close)


async def _with_files(worker: Worker, work: Awaitable[Any]) -> Any:
    """What `work` makes of files in the worker's folder. If it fails because they went away with the worker, that is
    told as the worker's end."""
    try:
        return await work
    except (AppError, MienError, OSError):
        if not worker.ended:
            raise
        await worker.gone.wait()
        raise worker.why or WorkerGone("the worker is gone") from None


def need_of(deployed: Deployed, variant: str, settings: Workers) -> Need:
    """What one worker of that version and variant holds; an unknown variant is refused later, with words."""
    profile = deployed.version.manifest.variant(variant) or Variant()
    return Need(profile.resources.ram or settings.app_memory, profile.resources.gpus)
