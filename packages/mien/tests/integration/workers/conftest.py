"""Real apps in real worker processes: environments are built once per session, data folders are each test's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mien.apps.deploy import Deployer
from mien.apps.environments import Environments
from mien.apps.record import Deployed
from mien.apps.registry import AppRegistry
from mien.encoded import Encoded
from mien.metrics import Metrics
from mien.settings import Settings
from mien.tasks.pool_executor import PoolExecutor
from mien.tasks.records import Attempt, Task, candidate_of, setup_key
from mien.tasks.status import Status
from mien.workers.files import FileGate
from mien.workers.fit import Fit
from mien.workers.listener import Stage
from mien.workers.placement import LocalPlacement
from mien.workers.pool import WorkerPool
from mien.workers.run_dir import WorkerRunDir

EXAMPLES = Path(__file__).parents[5] / "examples" / "apps"
MIB = 1024 * 1024

APP = """
import asyncio, os, sys, time
from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    do: str = ""
    text: str = ""

class AppOutput(BaseAppOutput):
    text: str = ""

class App(BaseApp):
    async def setup(self):
        self.runs = 0

    async def run(self, app_input: AppInput) -> AppOutput:
        self.runs += 1
        {body}
        return AppOutput(text=f"{{self.runs}} {{app_input.text}}")
"""


@dataclass
class Report:
    """Everything that the executor reported about one attempt."""

    events: list[tuple[float, str, Any]] = field(default_factory=list)
    _stage: Stage = Stage.PREPARING

    def _add(self, kind: str, value: Any) -> None:
        self.events.append((time.monotonic(), kind, value))

    def stage(self, stage: Stage) -> None:
        self._stage = stage
        self._add("status", stage.name)

    def worker(self, name: str) -> None:
        self._add("worker", name)

    def log(self, text: str) -> None:
        self._add("log", (self._stage.name, text))

    def progress(self, fraction: float, message: str | None = None) -> None:
        self._add("progress", (fraction, message))

    def output(self, value: Any) -> None:
        self._add("output", value)

    def all(self, kind: str) -> list[Any]:
        return [value for _, found, value in self.events if found == kind]

    @property
    def statuses(self) -> list[str]:
        return self.all("status")

    @property
    def lines(self) -> list[str]:
        return [text for _, text in self.all("log")]

    async def until(self, kind: str, value: Any = None, seconds: float = 60) -> Any:
        """Wait for an event of that kind (and value) and return its value."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for found in self.all(kind):
                if value is None or found == value or (kind == "log" and value in found[1]):
                    return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"no {kind} {value!r} within {seconds} s; there were {self.events[-20:]}")


@pytest.fixture
def report() -> Callable[[], Report]:
    """Makes reports, one for each attempt."""
    return Report


def task_of(deployed: Deployed, given: Any, number: int, **fields: Any) -> Task:
    now = time.time()
    version = deployed.version
    values: dict[str, Any] = {
        "id": f"task{number:022d}", "short_id": f"{number:08d}", "seq": number, "revision": 1, "created_at": now,
        "updated_at": now, "status": Status.SCHEDULED, "app": version.app, "app_version": version.version,
        "variant": "default", "function": "run", "infra": "cloud", "workers": (), "setup": None,
        "input": Encoded.of(given), "output": None, "error": None, "error_code": None, "progress": None,
        "progress_message": None, "worker": None,
        "webhook": None, "session_id": None, "session_timeout": None, "priority": 0, "idempotency_key": None,
        "owner": "", "attempt": 1, "losses": 0, "retries": 1, "deadline": None, "timeout": None, "run_at": None,
        "cancel_requested_at": None, "finished_at": None, "log_count": 0, "events": (), "metadata": {}, "dialect": "",
        **fields,
    }  # fmt: skip
    return Task(setup_key=setup_key(values["setup"]), **values)


class Server:
    """The parts of a server that run apps, without the web and without a task store."""

    def __init__(self, settings: Settings, files: FileGate | None) -> None:
        self.settings = settings
        self.registry = AppRegistry(settings.locations.apps_dir)
        self.environments = Environments(settings.locations.environments_dir)
        self.deployer = Deployer(settings.apps, settings.workers, self.registry, self.environments)
        self.metrics = Metrics()
        self.room = asyncio.Event()
        """Set when capacity was freed; for a scheduler."""
        self.pool = WorkerPool(
            settings.workers,
            LocalPlacement.from_settings(settings.workers),
            self.environments,
            WorkerRunDir(settings.locations.workers_dir),
            metrics=self.metrics,
            on_capacity_freed=self.room.set,
        )
        self.executor = PoolExecutor(
            self.pool,
            self.registry,
            settings.workers,
            settings.locations,
            check_session=lambda session_id: None,
            files=files,
        )
        self.metrics.observe_workers(self.pool.states)
        self.number = 0
        self.pool.start()

    async def deploy(self, folder: Path, name: str | None = None) -> Deployed:
        return await self.deployer.deploy(folder, name)

    def fit(self, deployed: Deployed, **fields: Any) -> Fit:
        return self.executor.fit(candidate_of(task_of(deployed, {}, 0, **fields)))

    def submit(self, deployed: Deployed, given: Any = None, **fields: Any) -> tuple[str, Report, "asyncio.Task[Any]"]:
        """Start a task immediately, as the scheduler does; there must be capacity."""
        self.number += 1
        task = task_of(deployed, given or {}, self.number, **fields)
        candidate = candidate_of(task)
        assert self.executor.fit(candidate).startable
        self.executor.reserve(candidate)
        report = Report()
        work = asyncio.create_task(self.executor.execute(Attempt(task, "test", time.time() + 60), report))
        return task.id, report, work

    async def run(self, deployed: Deployed, given: Any = None, **fields: Any) -> tuple[Any, Report]:
        _, report, work = self.submit(deployed, given, **fields)
        return await work, report


@pytest.fixture(scope="session")
def apps_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The cache in which environments of apps are built, once for all processes of pytest."""
    own = tmp_path_factory.getbasetemp()
    cache = (own if worker_id == "master" else own.parent) / "apps-cache"
    cache.mkdir(exist_ok=True)
    return cache


Start = Callable[..., Server]


@asynccontextmanager
async def servers(folder: Path, cache: Path) -> AsyncIterator[Start]:
    """Makes servers that end with the context: `start(setting=value, …)`."""
    started: list[Server] = []

    def start(*, files: FileGate | None = None, **settings: Any) -> Server:
        given = {"app_memory": 512 * MIB, "data_dir": folder / "data", "cache_dir": cache, **settings}
        started.append(Server(Settings(**given), files))
        return started[-1]

    yield start
    for server in started:
        await server.pool.close()


@pytest.fixture
async def app_server(tmp_path: Path, apps_cache: Path) -> AsyncIterator[Start]:
    """Makes servers: `app_server(setting=value, …)`."""
    async with servers(tmp_path, apps_cache) as start:
        yield start


Write = Callable[..., Path]


def writer(sources: Path) -> Write:
    """Writes apps below that folder."""

    def write(name: str = "probe", *, body: str = "pass", code: str | None = None, **files: str) -> Path:
        folder = sources / name
        folder.mkdir(parents=True)
        indented = body.strip().replace("\n", "\n        ")
        (folder / "inference.py").write_text(code or APP.format(body=indented))
        (folder / "inf.yml").write_text(files.pop("inf", f"name: {name}\n"))
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder

    return write


@pytest.fixture
def app_folder(tmp_path: Path) -> Write:
    """Writes apps: `app_folder("name", body="what run does", **{"requirements.txt": "…"})`."""
    return writer(tmp_path / "sources")


Prepare = Callable[..., Awaitable[tuple[Server, Deployed]]]


def preparer(start: Start, write: Write) -> Prepare:
    """Starts a server with one deployed app."""

    async def prepare(body: str = "pass", **settings: Any) -> tuple[Server, Deployed]:
        server = start(**settings)
        return server, await server.deploy(write("probe", body=body))

    return prepare


@pytest.fixture
def probe(app_server: Start, app_folder: Write) -> Prepare:
    """A server with one deployed app: `server, app = await probe("what run does", setting=value, …)`."""
    return preparer(app_server, app_folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_probe(tmp_path_factory: pytest.TempPathFactory, apps_cache: Path) -> AsyncIterator[Prepare]:
    """As `probe`, for tests that share one app; their `loop_scope` is the module, too."""
    folder = tmp_path_factory.mktemp("module")
    async with servers(folder, apps_cache) as start:
        yield preparer(start, writer(folder / "sources"))


@pytest.fixture
def example() -> Callable[[str], Path]:
    """The folder of an app in examples/apps."""
    return lambda name: EXAMPLES / name
