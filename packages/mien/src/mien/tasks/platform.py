"""Tasks, apps, workers and files of one server: started together, in order, and stopped in the other order."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

import structlog

from mien.apps.cleaning import clean
from mien.apps.deploy import Deployer
from mien.apps.environments import Environments
from mien.apps.input_schemas import InputChecks
from mien.apps.registry import AppRegistry
from mien.errors import MienError
from mien.inference.registry import ServiceRegistry
from mien.metrics import Metrics
from mien.net.fetch import Fetcher
from mien.net.post import Poster
from mien.settings import DEFAULT_PORTS, Listening, Settings
from mien.storage.database import Database
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.links import Links
from mien.storage.local_blobs import LocalBlobs
from mien.storage.signing import UrlSigner, load_key
from mien.tasks.app_services import AppServices
from mien.tasks.builtin import BuiltinExecutor
from mien.tasks.feed import Feed
from mien.tasks.file_gate import StoreGate
from mien.tasks.machine import wall_clock
from mien.tasks.policy import Policy
from mien.tasks.pool_executor import PoolExecutor
from mien.tasks.records import Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.sessions import Sessions
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.store import TaskStore
from mien.tasks.webhooks import WebhookSender
from mien.workers.placement import LocalPlacement
from mien.workers.pool import WorkerPool
from mien.workers.run_dir import WorkerRunDir

log = structlog.get_logger()

Render = Callable[[Task, Links], bytes]

DAY = 86400.0
PURGE_SECONDS = 600.0
CLEAN_SECONDS = 3600.0
REFRESH_SECONDS = 3.0


@dataclass
class Platform:
    """What the task door calls."""

    settings: Settings
    metrics: Metrics
    store: TaskStore
    feed: Feed
    scheduler: Scheduler
    files: FileStore
    links: Links
    apps: AppRegistry
    environments: Environments
    deployer: Deployer
    pool: WorkerPool
    sessions: Sessions
    checks: InputChecks
    services: AppServices
    webhook_key: bytes
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nothing will happen to tasks any more: streams end."""
    _builtin: BuiltinExecutor | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _draining: "asyncio.Task[None] | None" = None

    @classmethod
    async def start(cls, settings: Settings, metrics: Metrics, render: Render) -> Self:
        """Open the database and begin to run what is queued. Raises MienError that says why it cannot.

        `render` makes the body of a task's webhook.
        """
        async with AsyncExitStack() as stack:
            platform = await cls._start(settings, metrics, render, stack)
            platform._stack = stack.pop_all()
        return platform

    @classmethod
    async def _start(cls, settings: Settings, metrics: Metrics, render: Render, stack: AsyncExitStack) -> Self:
        database = await Database.open(settings.locations.data_dir / "mien.db")
        stack.push_async_callback(database.close)
        store = SqlTaskStore(database, retries=settings.tasks.task_retries)
        files = FileStore(
            FileTable(database, wall_clock),
            LocalBlobs(settings.locations.data_dir / "files"),
            clock=wall_clock,
            max_bytes=settings.files.file_max_bytes,
            keep_seconds=None if settings.files.file_keep_days is None else settings.files.file_keep_days * DAY,
        )
        await files.start()
        keys = settings.locations.data_dir / "secrets"
        signer = UrlSigner(await asyncio.to_thread(load_key, keys / "files.key"), wall_clock)
        webhook_key = await asyncio.to_thread(load_key, keys / "webhooks.key")
        links = Links(
            signer, settings.files.file_url_seconds, settings.listening.public_url, own_urls(settings.listening)
        )

        apps = AppRegistry(settings.locations.apps_dir)
        environments = Environments(settings.locations.environments_dir, constraints=settings.apps.app_constraints)
        run_dir = await asyncio.to_thread(WorkerRunDir, settings.locations.workers_dir)
        room = asyncio.Event()
        pool = WorkerPool(
            settings.workers,
            LocalPlacement.from_settings(settings.workers),
            environments,
            run_dir,
            metrics=metrics,
            on_room=room.set,
            fetch_private=settings.fetching.fetch_private,
        )
        metrics.observe_workers(pool.states)
        stack.push_async_callback(pool.close)
        sessions = Sessions(pool)
        builtin = BuiltinExecutor(files, places=2 * (os.cpu_count() or 1), max_bytes=settings.limits.max_image_bytes)
        workers = PoolExecutor(
            pool, apps, settings.workers, settings.locations, check_session=sessions.check, files=StoreGate(files)
        )
        scheduler = Scheduler(store, [builtin, workers], policy_of(settings), metrics=metrics, awake=room)
        store.listen(sessions.changed)
        feed = Feed(store)
        metrics.task_streams.set_function(lambda: feed.watchers)

        poster = Poster(allow_private=settings.fetching.fetch_private)
        stack.push_async_callback(poster.aclose)
        webhooks = WebhookSender(
            store,
            poster.post,
            webhook_key,
            tries=settings.tasks.webhook_tries,
            render=lambda task: render(task, links),
            metrics=metrics,
        )
        pool.start()
        await scheduler.start()
        stack.push_async_callback(scheduler.drain, 0)
        await webhooks.start()
        stack.push_async_callback(webhooks.close)
        services = AppServices(apps, scheduler, feed, files, links)
        platform = cls(
            settings,
            metrics,
            store,
            feed,
            scheduler,
            files,
            links,
            apps,
            environments,
            Deployer(settings.apps, settings.workers, apps, environments),
            pool,
            sessions,
            InputChecks(),
            services,
            webhook_key,
            _builtin=builtin,
        )
        for work in (platform._keep_house(), platform._clean_environments(), platform._refresh_services()):
            loop = asyncio.create_task(work)
            stack.push_async_callback(_cancelled, loop)
        return platform

    def attach(self, services: ServiceRegistry, fetcher: Fetcher) -> None:
        """The models are loaded: built-in apps can run, and apps with a service name become services."""
        assert self._builtin is not None  # noqa: S101 - made by `start`
        self._builtin.attach(services, fetcher)
        self.services.attach(services)
        self.scheduler.wake()

    def begin_drain(self) -> None:
        """Take no more tasks and give the running ones their time, while streams go on."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self.scheduler.drain(self.settings.listening.drain_seconds)
        finally:
            self.stopping.set()

    async def stop(self) -> None:
        """Drain and close everything. What did not end is queued for the next start."""
        self.begin_drain()
        assert self._draining is not None  # noqa: S101 - just begun
        await asyncio.gather(self._draining, return_exceptions=True)
        await self._stack.aclose()

    async def _keep_house(self) -> None:
        while True:
            try:
                await self.files.purge(wall_clock())
            except MienError as error:
                log.error("old files could not be removed", error=error.message)
            await asyncio.sleep(PURGE_SECONDS)

    async def _clean_environments(self) -> None:
        days = self.settings.apps.environment_keep_days
        while days is not None:
            try:
                for gone in await asyncio.to_thread(
                    clean, self.environments, self.apps, seconds=days * DAY, now=wall_clock()
                ):
                    log.info("an environment that nothing uses was removed", environment=gone.key, bytes=gone.size)
            except (MienError, OSError) as error:
                log.error("unused environments could not be removed", error=str(error))
            await asyncio.sleep(CLEAN_SECONDS)

    async def _refresh_services(self) -> None:
        """Apps may be deployed by a command beside this server."""
        while True:
            try:
                await self.services.refresh()
            except (MienError, OSError) as error:
                log.error("the apps' services could not be looked up", error=str(error))
            await asyncio.sleep(REFRESH_SECONDS)


def policy_of(settings: Settings) -> Policy:
    """The scheduler's numbers."""
    return Policy(
        queue=settings.tasks.task_queue,
        input_bytes=settings.tasks.task_input_bytes,
        output_bytes=settings.tasks.task_output_bytes,
        log_bytes=settings.tasks.task_log_bytes,
        app_concurrency=settings.tasks.task_concurrency,
        task_aging_seconds=settings.tasks.task_patience,
        lease=settings.tasks.task_lease,
        grace=settings.tasks.task_grace,
        longest_grace=settings.tasks.task_grace_max,
        timeout=settings.tasks.task_timeout,
        keep=None if settings.tasks.task_keep_days is None else settings.tasks.task_keep_days * DAY,
    )


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def own_urls(listening: Listening) -> tuple[str, ...]:
    """Where this server is reached from its own machine, by each of its ports."""
    host = "127.0.0.1" if listening.host in ("0.0.0.0", "::", "") else listening.host  # noqa: S104
    ports = DEFAULT_PORTS if listening.port is None else (listening.port,)
    return tuple(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for port in ports)
