"""Built-in apps through the scheduler: on the services of this server, without a process of their own."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mien.encoded import Encoded
from mien.engine.cancellation import CancelScope
from mien.inference.contract import InferRequest, InferResult, Json, TaskInfo
from mien.inference.registry import ServiceRegistry
from mien.net.fetch import Fetcher
from mien.storage.database import Database
from mien.storage.file_records import NewFile
from mien.storage.file_store import FileStore
from mien.storage.file_table import FileTable
from mien.storage.links import file_uri
from mien.storage.local_blobs import LocalBlobs
from mien.tasks.builtin import BuiltinExecutor
from mien.tasks.feed import Feed
from mien.tasks.machine import wall_clock
from mien.tasks.policy import Policy
from mien.tasks.records import Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.sql.store import SqlTaskStore
from mien.tasks.status import Status


class Sizes:
    """A service that tells how large its payload is; `slow` in the metadata makes it wait to be cancelled."""

    name = "classification"

    def tasks(self) -> Sequence[TaskInfo]:
        return (TaskInfo("sizes", ("image/*",), ("application/json",)),)

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        while "slow" in request.metadata:
            scope.check()
            await asyncio.sleep(0.01)
        (item,) = request.items
        yield InferResult(value=Json({"bytes": len(item.data), **request.metadata}), is_final=True)


class Server:
    """A scheduler whose only executor is the built-in apps'."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.store = SqlTaskStore(database)
        self.files = FileStore(FileTable(database, wall_clock), LocalBlobs(folder / "files"), clock=wall_clock)
        self.registry, self.fetcher, self.loaded = ServiceRegistry(), Fetcher(), asyncio.Event()
        self.executor = BuiltinExecutor(
            self.files, self.registry, self.fetcher, self.loaded, concurrency=2, max_bytes=1000
        )
        self.awake = asyncio.Event()
        self.scheduler = Scheduler(self.store, [self.executor], Policy(grace=0.2), awake=self.awake)

    def ready(self, *services: Any) -> None:
        for service in services:
            self.registry.add(service)
        self.loaded.set()
        self.awake.set()

    async def submit(self, given: Any, app: str = "mien/classify") -> Task:
        task, _ = await self.scheduler.submit(Submission(app=app, input=Encoded.of(given)))
        return task

    async def until(self, task: Task, status: Status = Status.COMPLETED) -> Task:
        with await Feed(self.store).watch(task.id) as watch:
            while watch.task.status < status:
                assert await watch.next(30) is not None, watch.task
            return watch.task

    async def upload(self, content: bytes) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        record = await self.files.create(NewFile(filename="a.png"))
        return file_uri(await self.files.write(record.id, chunks()))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    database = await Database.open(tmp_path / "mien.db")
    server = Server(database, tmp_path)
    await server.files.start()
    async with server.scheduler:
        yield server
    await server.fetcher.aclose()
    await database.close()


async def test_tasks_wait_for_the_models_and_run_when_they_are_loaded(server: Server) -> None:
    task = await server.submit({"image": "data:," + "x" * 7, "top_k": 3})
    await asyncio.sleep(0.1)
    assert (await server.store.get(task.id)).status is Status.QUEUED
    server.ready(Sizes())
    ended = await server.until(task)
    assert (ended.status, ended.output, ended.worker) == (Status.COMPLETED, {"bytes": 7, "top_k": "3"}, "engine")


@pytest.mark.parametrize("wrap", [lambda uri: uri, lambda uri: {"uri": uri}], ids=["text", "file-object"])
async def test_images_come_from_the_store_and_from_data_uris(server: Server, wrap: Any) -> None:
    server.ready(Sizes())
    for uri in (await server.upload(b"x" * 11), "data:image/png;base64," + base64.b64encode(b"x" * 11).decode()):
        assert (await server.until(await server.submit({"image": wrap(uri)}))).output == {"bytes": 11}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "image: expected a file"),
        ({"image": 5}, "image: expected a file"),
        ({"image": "/etc/passwd"}, "image: expected a file"),
        ({"image": "file:///etc/passwd"}, "image: expected a file"),
        ({"image": "mien-file://" + "0" * 26 + "/a.png"}, "no file"),
        ({"image": "http://127.0.0.1:1/a.png"}, "not read"),
    ],
)
async def test_what_is_no_image_fails_the_task_with_the_reason(server: Server, given: Any, words: str) -> None:
    server.ready(Sizes())
    ended = await server.until(await server.submit(given))
    assert ended.status is Status.FAILED
    assert words in str(ended.error)


async def test_a_stored_image_over_the_limit_is_refused(server: Server) -> None:
    server.ready(Sizes())
    ended = await server.until(await server.submit({"image": await server.upload(bytes(1001))}))
    assert (ended.status, "1001 bytes" in str(ended.error)) == (Status.FAILED, True)


async def test_an_app_whose_model_is_not_loaded_says_so(server: Server) -> None:
    server.ready()
    ended = await server.until(await server.submit({"image": "data:,x"}))
    assert ended.status is Status.FAILED
    assert "needs the service classification" in str(ended.error)


async def test_no_more_run_at_once_than_there_are_places_and_a_cancel_frees_one(server: Server) -> None:
    server.ready(Sizes())
    slow = {"image": "data:,x", "slow": 1}
    running = [await server.until(await server.submit(slow), Status.RUNNING) for _ in range(2)]
    waits = await server.submit({"image": "data:,x"})
    await asyncio.sleep(0.1)
    assert (await server.store.get(waits.id)).status is Status.QUEUED
    await server.scheduler.cancel(running[0].id)
    assert (await server.until(running[0])).status is Status.CANCELLED
    assert (await server.until(waits)).status is Status.COMPLETED
