"""The application: every component of a server, in start order. They stop in reverse order."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from mien import __version__
from mien.apps.deploy import Deployer
from mien.apps.environments import Environments
from mien.apps.input_schemas import InputChecks
from mien.apps.registry import AppRegistry
from mien.atomic import remove_leftovers
from mien.builtin import OfferedServices, load_inference, open_fetcher, open_file_fetcher
from mien.engine.admission import Admission
from mien.engine.threads import ThreadPool
from mien.errors import InternalError, MienError
from mien.faces.self_check import SelfCheck
from mien.hosts import is_loopback
from mien.housekeeping import clean_environments, housekeeping, purge_files, refresh_services
from mien.http.auth import Auth
from mien.http.body import BodyReader
from mien.http.compress import Compress
from mien.http.context import Context, Runtime, TaskParts
from mien.http.cors import Cors
from mien.http.errors import install_error_handlers
from mien.http.inferencesh.apps import router as inferencesh_apps
from mien.http.inferencesh.dialect import CompatPaths
from mien.http.inferencesh.files import router as inferencesh_files
from mien.http.inferencesh.rendering import webhook_body
from mien.http.inferencesh.sessions import router as inferencesh_sessions
from mien.http.inferencesh.tasks import router as inferencesh_tasks
from mien.http.insightface.routes import router as insightface
from mien.http.loop_lag import LoopLag
from mien.http.lumen.routes import InferFirst
from mien.http.lumen.routes import router as lumen
from mien.http.methods import HeadWithoutBody, allow_head
from mien.http.observe import Observe
from mien.http.openapi.route import serve_document
from mien.http.operations.models import router as models
from mien.http.operations.routes import router as operations
from mien.http.origin import OriginGuard
from mien.http.proxies import Prefixed, TrustedProxies
from mien.inference.registry import ServiceRegistry
from mien.keys import FileKeyStore
from mien.machine import usable_cores
from mien.metrics import Metrics
from mien.net.fetch import Fetcher
from mien.net.post import Poster
from mien.nodes.local_node import LocalNode
from mien.nodes.pool import NodePool
from mien.nodes.remote_services import RemoteServices
from mien.nodes.server import node_access
from mien.private import tighten
from mien.quotas import FileOwnerStore, Quotas
from mien.settings import Locations, Settings
from mien.storage.database import Database
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.links import Links
from mien.storage.local_blobs import LocalBlobs
from mien.storage.signing import UrlSigner, load_key
from mien.tasks.app_services import AppServices
from mien.tasks.builtin import BuiltinExecutor
from mien.tasks.draining import Drain
from mien.tasks.feed import Feed
from mien.tasks.file_gate import StoreGate
from mien.tasks.input_paths import InputPaths
from mien.tasks.machine import wall_clock
from mien.tasks.payloads import PayloadLimits
from mien.tasks.policy import policy_of
from mien.tasks.pool_executor import PoolExecutor
from mien.tasks.scheduler import Scheduler
from mien.tasks.sessions import Sessions
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.webhooks import WebhookSender
from mien.workers.placement import LocalPlacement
from mien.workers.pool import WorkerPool
from mien.workers.run_dir import WorkerRunDir

log = structlog.get_logger()
CODEC_THREADS = 2


def create_app(settings: Settings, *, apis: bool = True) -> FastAPI:
    """The application; its context is `app.state.context`. Components start in its lifespan.

    Without `apis` it serves only liveness, readiness and metrics over HTTP, for a server whose clients use gRPC.
    """
    metrics, keys = Metrics(), FileKeyStore(settings.locations.data_dir)
    admission, codec_threads = Admission.from_settings(settings.limits), ThreadPool(CODEC_THREADS)
    lag = LoopLag()
    metrics.loop_lag.set_function(lag.take)
    bodies = BodyReader(settings.limits, admission, codec_threads)
    quotas = Quotas(settings.quotas, FileOwnerStore(settings.locations.data_dir))
    context = Context(settings, metrics, Auth(settings.listening, keys, quotas), quotas, bodies, codec_threads)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(lag.watched())
            stack.push_async_callback(asyncio.to_thread, codec_threads.close)
            stack.push_async_callback(asyncio.to_thread, bodies.close)
            # In the background, so that liveness and readiness probes are served while models load.
            starting = asyncio.create_task(_start_or_give_up(context, keys, admission, stack, tasks=apis))
            try:
                yield
            finally:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)

    app: FastAPI = FastAPIOffline(
        title="Mien",
        version=__version__,
        lifespan=lifespan,
        description="One engine, three APIs: faces, images and your own Python models.",
    )
    app.state.context = context
    serve_document(app)
    for route in app.routes:  # the pages of the documentation
        allow_head(route)
    on_bug = install_error_handlers(app, metrics)
    app.add_middleware(Prefixed)
    app.include_router(operations)
    if apis:
        app.include_router(models)
        app.include_router(insightface)
        app.include_router(lumen)
        for router in (inferencesh_tasks, inferencesh_files, inferencesh_apps, inferencesh_sessions):
            app.include_router(router)
        app.add_middleware(InferFirst)
    app.add_middleware(OriginGuard, listening=settings.listening, has_keys=lambda: bool(keys.all()))
    if apis:
        app.add_middleware(CompatPaths)
    app.add_middleware(Compress, threads=codec_threads)
    app.add_middleware(HeadWithoutBody)  # around it: what it does depends on the length of the body
    app.add_middleware(Observe, metrics=metrics, on_bug=on_bug)
    if settings.listening.cors_origins:
        app.add_middleware(Cors, origins=settings.listening.cors_origins)
    app.add_middleware(TrustedProxies, listening=settings.listening)
    return app


async def _start_or_give_up(
    context: Context, keys: FileKeyStore, admission: Admission, stack: AsyncExitStack, *, tasks: bool
) -> None:
    """Start every component. A failure is recorded in `context.readiness`: the server then stops and raises it."""
    try:
        await start(context, keys, admission, stack, tasks=tasks)
    except MienError as error:
        failure = error
    except Exception as error:  # whatever it is, the server must not stay up without ever becoming ready
        log.error("unexpected error", exc_info=error)
        failure = InternalError("the server could not start; its log has the details")
    else:
        return
    log.error("the server could not start", code=failure.code, reason=failure.message)
    context.readiness.failure = failure


async def start(
    context: Context, keys: FileKeyStore, admission: Admission, stack: AsyncExitStack, *, tasks: bool
) -> None:
    """Start every component; `stack` stops them. Raises MienError if one cannot start.

    The order follows from shutdown, which is the reverse: tasks drain while workers, nodes, models and the database
    are still running, then the node finishes its requests, and the models are unloaded last.
    """
    settings, metrics, readiness = context.settings, context.metrics, context.readiness
    await asyncio.to_thread(_tighten, settings.locations.data_dir)
    registry = ServiceRegistry(prefer_remote=settings.nodes.prefer_remote)
    loaded = asyncio.Event()

    # Tasks and nodes use these until they have ended. Models load last, but their stack is entered here, so that they
    # are also closed after everything that uses them.
    fetcher = open_fetcher(settings)
    stack.push_async_callback(fetcher.aclose)
    inference_stack = await stack.enter_async_context(AsyncExitStack())

    remote = RemoteServices(registry)
    nodes, local_node = await _start_nodes(context, keys, admission, registry, remote, stack)

    # Tasks are accepted and queued from here on; those of deployed apps already run.
    if tasks:
        readiness.tasks = await start_tasks(context, registry, fetcher, loaded, stack)

    # Loading models takes seconds, hence the thread.
    inference = await asyncio.to_thread(load_inference, settings, metrics, fetcher, admission)
    inference_stack.push_async_callback(inference.close)
    offered = OfferedServices(registry, inference.services)
    offered.refresh()

    async def models_changed() -> None:
        offered.refresh()
        remote.update(nodes)
        await local_node.announce()

    inference.manager.listen(models_changed)
    remote.update(nodes)
    loaded.set()
    readiness.runtime = Runtime(
        settings=settings,
        metrics=metrics,
        registry=registry,
        nodes=nodes,
        faces=inference.faces,
        models=inference.facts,
        manager=inference.manager,
        self_check=SelfCheck(inference.faces, settings.api.default_threshold),
    )
    if readiness.tasks is not None:
        readiness.tasks.scheduler.wake()
    await local_node.ready()
    # Everything allocated so far is long-lived: exclude it from every later collection.
    gc.collect()
    gc.freeze()
    log.info("ready", models=inference.models.names())


async def _start_nodes(
    context: Context,
    keys: FileKeyStore,
    admission: Admission,
    registry: ServiceRegistry,
    remote: RemoteServices,
    stack: AsyncExitStack,
) -> tuple[NodePool, LocalNode]:
    """Other nodes, and this server's own: it listens already, but rejects requests until the models are loaded."""
    settings, metrics = context.settings, context.metrics
    nodes = NodePool.from_settings(
        settings.nodes,
        waiting=settings.limits.queue_images,
        count=metrics.observe_node_request,
        on_change=remote.update,
    )
    stack.push_async_callback(nodes.close)
    open_without_keys = not settings.listening.auth or is_loopback(settings.node_host)
    access = node_access(keys, open_without_keys=open_without_keys)
    local_node = await stack.enter_async_context(
        LocalNode(settings, metrics, registry, nodes, access, context.quotas, admission)
    )
    for address in settings.nodes.nodes:
        nodes.add(address)
    return nodes, local_node


def _remove_leftovers(locations: Locations) -> None:
    for folder in (locations.data_dir, locations.data_dir / "secrets", *locations.apps_dir.glob("*/*")):
        remove_leftovers(folder)


def _tighten(data_dir: Path) -> None:
    changed, failed = tighten(data_dir)
    if changed:
        log.warning("others could read these; only the server's user can now", folder=str(data_dir), changed=changed)
    if failed:
        log.error("others can read these, and the server may not change that", folder=str(data_dir), files=failed)


async def start_tasks(
    context: Context, registry: ServiceRegistry, fetcher: Fetcher, loaded: asyncio.Event, stack: AsyncExitStack
) -> TaskParts:
    """Open the database and start running queued tasks. Built-in apps wait until `loaded` is set."""
    settings, metrics = context.settings, context.metrics
    kept = await _open_storage(settings, context.quotas, stack)
    store, files, links, apps = kept.store, kept.files, kept.links, kept.apps

    # The queue and its executors. `capacity_freed` wakes the scheduler when a task may fit that did not before.
    capacity_freed = asyncio.Event()
    pool = await _start_workers(settings, metrics, kept.environments, capacity_freed, stack)
    sessions = Sessions(pool)
    builtin = BuiltinExecutor(
        files, registry, fetcher, loaded, concurrency=2 * usable_cores(), max_bytes=settings.limits.max_image_bytes
    )
    workers = _pool_executor(settings, pool, apps, files, sessions, stack)
    policy, limits = policy_of(settings.tasks), context.quotas.of
    scheduler = Scheduler(store, [builtin, workers], policy, metrics=metrics, awake=capacity_freed, limits=limits)
    store.listen(sessions.changed)
    feed = Feed(store)
    metrics.task_streams.set_function(lambda: feed.watchers)
    await scheduler.start()
    stack.push_async_callback(scheduler.drain, 0)

    # What reacts to tasks.
    await _start_webhooks(settings, metrics, kept, stack)
    services = AppServices(
        apps,
        registry,
        loaded,
        scheduler,
        feed,
        files,
        links,
        offload=context.bodies.offload,
        limits=PayloadLimits(settings.limits.max_values, 2 * settings.tasks.task_input_bytes),  # with spaces
    )
    chores = [purge_files(files, scheduler.retention), refresh_services(services)]
    if settings.apps.environment_keep_days is not None:
        chores.append(clean_environments(kept.environments, apps, settings.apps.environment_keep_days))
    await stack.enter_async_context(housekeeping(chores))
    drain = await stack.enter_async_context(Drain(scheduler, settings.listening.drain_seconds))
    return TaskParts(
        settings=settings,
        metrics=metrics,
        store=store,
        feed=feed,
        scheduler=scheduler,
        files=files,
        links=links,
        apps=apps,
        deployer=Deployer(settings.apps, settings.workers, apps, kept.environments),
        sessions=sessions,
        checks=InputChecks(),
        services=services,
        drain=drain,
    )


@dataclass(frozen=True, slots=True)
class _Storage:
    """What outlives this process."""

    store: SqlTaskStore
    files: FileStore
    links: Links
    webhook_key: bytes
    apps: AppRegistry
    environments: Environments


async def _open_storage(settings: Settings, quotas: Quotas, stack: AsyncExitStack) -> _Storage:
    locations = settings.locations
    await asyncio.to_thread(_remove_leftovers, locations)
    database = await Database.open(locations.data_dir / "mien.db")
    stack.push_async_callback(database.close)
    store = SqlTaskStore(database, retries=settings.tasks.task_retries)
    files = FileStore(
        FileTable(database, wall_clock, lambda owner: quotas.of(owner).file_bytes),
        LocalBlobs(locations.data_dir / "files"),
        clock=wall_clock,
        max_bytes=settings.files.file_max_bytes,
        keep_seconds=settings.files.keep_seconds,
    )
    await files.start()
    secrets = locations.data_dir / "secrets"
    signer = UrlSigner(await asyncio.to_thread(load_key, secrets / "files.key"), wall_clock)
    return _Storage(
        store,
        files,
        Links(signer, settings.files.file_url_seconds, settings.listening),
        webhook_key=await asyncio.to_thread(load_key, secrets / "webhooks.key"),
        apps=AppRegistry(locations.apps_dir),
        environments=Environments(locations.environments_dir, constraints=settings.apps.app_constraints),
    )


async def _start_workers(
    settings: Settings,
    metrics: Metrics,
    environments: Environments,
    capacity_freed: asyncio.Event,
    stack: AsyncExitStack,
) -> WorkerPool:
    run_dir = await asyncio.to_thread(WorkerRunDir, settings.locations.workers_dir)
    pool = WorkerPool(
        settings.workers,
        LocalPlacement.from_settings(settings.workers),
        environments,
        run_dir,
        metrics=metrics,
        on_capacity_freed=capacity_freed.set,
    )
    stack.push_async_callback(pool.close)
    metrics.observe_workers(pool.states)
    pool.start()
    return pool


def _pool_executor(
    settings: Settings, pool: WorkerPool, apps: AppRegistry, files: FileStore, sessions: Sessions, stack: AsyncExitStack
) -> PoolExecutor:
    file_fetcher = open_file_fetcher(settings)
    stack.push_async_callback(file_fetcher.aclose)
    paths = InputPaths(settings.workers.app_input_dirs, settings.locations.data_dir)
    return PoolExecutor(
        pool,
        apps,
        settings.workers,
        settings.locations,
        check_session=sessions.check,
        files=StoreGate(files, file_fetcher, paths),
    )


async def _start_webhooks(settings: Settings, metrics: Metrics, kept: _Storage, stack: AsyncExitStack) -> None:
    poster = Poster(allow_private=settings.fetching.fetch_private)
    stack.push_async_callback(poster.aclose)
    webhooks = WebhookSender(
        kept.store,
        poster.post,
        kept.webhook_key,
        tries=settings.tasks.webhook_tries,
        render=lambda task: webhook_body(task, kept.links),
        metrics=metrics,
    )
    await webhooks.start()
    stack.push_async_callback(webhooks.close)
