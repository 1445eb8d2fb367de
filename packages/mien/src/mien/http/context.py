"""What handlers work with: the parts of the server that have started so far."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from mien.apps.deploy import Deployer
from mien.apps.input_schemas import InputChecks
from mien.apps.registry import AppRegistry
from mien.builtin import ModelFacts
from mien.engine.threads import ThreadPool
from mien.errors import MienError, Unavailable
from mien.faces.self_check import SelfCheck
from mien.faces.service import FaceService
from mien.http.auth import Auth
from mien.http.body import BodyReader
from mien.http.inferencesh.frames import FrameCache
from mien.http.lumen.traffic import Traffic
from mien.inference.model_manager import ModelManager
from mien.inference.registry import ServiceRegistry
from mien.keys import Caller, Scope
from mien.metrics import Metrics
from mien.nodes.pool import NodePool
from mien.quotas import Quotas
from mien.settings import Settings
from mien.storage.file_store import FileStore
from mien.storage.links import Links
from mien.tasks.app_services import AppServices
from mien.tasks.draining import Drain
from mien.tasks.feed import Feed
from mien.tasks.scheduler import Scheduler
from mien.tasks.sessions import Sessions
from mien.tasks.store import TaskStore

LOADING_SECONDS = 2.0
STARTING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TaskParts:
    """What the inference.sh API calls. There before the models are loaded."""

    settings: Settings
    metrics: Metrics
    store: TaskStore
    feed: Feed
    scheduler: Scheduler
    files: FileStore
    links: Links
    apps: AppRegistry
    deployer: Deployer
    sessions: Sessions
    checks: InputChecks
    services: AppServices
    drain: Drain


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the APIs for inference call. There once the models are loaded."""

    settings: Settings
    metrics: Metrics
    registry: ServiceRegistry
    """What `/v1/infer` and nodes can be asked for by name."""
    nodes: NodePool
    """Nodes on other machines."""
    faces: FaceService
    models: ModelFacts
    manager: ModelManager
    """Loads and unloads models."""
    self_check: SelfCheck


@dataclass(slots=True)
class Readiness:
    """How far the start has come. Set by the application, read by handlers and the server; on the event loop only."""

    tasks: TaskParts | None = None
    runtime: Runtime | None = None
    failure: MienError | None = None
    """Why the start was given up: the server stops and says so."""

    def begin_drain(self) -> None:
        """Accept no more tasks and let the running ones finish, while streams go on."""
        if self.tasks is not None:
            self.tasks.drain.begin()


@dataclass(frozen=True, slots=True)
class Context:
    """What is there as soon as the application is, as `app.state.context`."""

    settings: Settings
    metrics: Metrics
    auth: Auth
    quotas: Quotas
    bodies: BodyReader
    codec_threads: ThreadPool
    """For parsing large bodies and encoding large responses, apart from the images' so that neither waits for the
    other."""
    readiness: Readiness = field(default_factory=Readiness)
    infer_traffic: Traffic = field(default_factory=Traffic)
    task_frames: FrameCache = field(default_factory=FrameCache)


def context_of(request: HTTPConnection) -> Context:
    """The context of the application that received the request."""
    context: Context = request.app.state.context
    return context


def authorised(request: HTTPConnection, scope: Scope = "infer") -> Runtime:
    """The runtime, if the key has `scope`. Raises Unauthorized, Forbidden, Unavailable while the models load."""
    return authorised_caller(request, scope)[0]


def authorised_caller(request: HTTPConnection, scope: Scope = "infer") -> tuple[Runtime, Caller]:
    """The runtime and who calls. Raises as `authorised` does."""
    context = context_of(request)
    caller = context.auth.require(request, scope)
    if context.readiness.runtime is None:
        raise Unavailable("the models are being loaded", retry_after=LOADING_SECONDS)
    request.state.owner = caller.owner
    return context.readiness.runtime, caller


def images_inside(request: HTTPConnection, count: int) -> AbstractContextManager[None]:
    """Counts images of an authorised request as inside, for its owner's quota. Raises QuotaExceeded."""
    return context_of(request).quotas.images(request.state.owner, count)


def task_parts(request: HTTPConnection) -> TaskParts:
    """The parts behind the tasks API. Raises Unavailable while the server starts."""
    parts = context_of(request).readiness.tasks
    if parts is None:
        raise Unavailable("the server is starting", retry_after=STARTING_SECONDS)
    return parts
