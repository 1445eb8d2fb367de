"""Apps with a `service` name in their inf.yml as services: each request is a durable task."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import msgspec

from mien.apps.record import AppVersion, Deployed, FunctionSchema
from mien.apps.registry import AppRegistry
from mien.encoded import Encoded
from mien.engine.cancellation import CancelScope
from mien.engine.offload import Offload
from mien.errors import AppRunFailed, Cancelled, DeadlineExceeded, InvalidField, MienError, Unavailable
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.registry import ServiceRegistry, task_of
from mien.storage.file_records import SCHEME, NewFile
from mien.storage.file_store import FileStore
from mien.storage.links import Links, file_references, file_uri
from mien.tasks.feed import Feed
from mien.tasks.input_files import require_files
from mien.tasks.payloads import JSON, AppInput, PayloadLimits, app_input
from mien.tasks.records import Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.status import Status

ANYTHING = ("image/*", "audio/*", "video/*", "text/plain", JSON, "application/octet-stream")
_NO_TASK = ""
PAYLOAD_SECONDS = 86400.0
"""How long a payload is kept if its server crashed before removing it; the next one may run its task."""


class AppServices:
    """Keeps the registry of services in sync with the deployed apps."""

    def __init__(
        self,
        apps: AppRegistry,
        services: ServiceRegistry,
        loaded: asyncio.Event,
        scheduler: Scheduler,
        feed: Feed,
        files: FileStore,
        links: Links,
        offload: Offload,
        limits: PayloadLimits,
    ) -> None:
        """`loaded`: the built-in services are registered, which no app replaces. `limits`: of JSON payloads."""
        self.scheduler = scheduler
        self.feed = feed
        self.files = files
        self.links = links
        self.offload = offload
        self.limits = limits
        self._apps = apps
        self._services = services
        self._loaded = loaded
        self._known: dict[str, str] = {}

    async def refresh(self) -> None:
        """Look at the deployed apps again. Does nothing before the built-in services are registered."""
        if not self._loaded.is_set():
            return
        wanted: dict[str, Deployed] = {}
        deployed_apps = await asyncio.to_thread(self._apps.all)
        builtin = {service.name for service in self._services.local() if not isinstance(service, AppService)}
        for deployed in deployed_apps:
            name = deployed.version.manifest.service.strip().lower()
            if name and name not in builtin:
                wanted.setdefault(name, deployed)
        for name in self._known.keys() - wanted.keys():
            if name not in builtin:  # otherwise its model was loaded since
                self._services.remove(name)
            del self._known[name]
        for name, deployed in wanted.items():
            if self._known.get(name) != deployed.version.version:
                self._services.add(AppService(name, deployed.version, self))
                self._known[name] = deployed.version.version


class AppService:
    """One version of an app under its service name. Its functions are the service's tasks."""

    def __init__(self, name: str, version: AppVersion, parts: AppServices) -> None:
        self.name = name
        self._version = version
        self._parts = parts
        names = [version.default_function, *(name for name in version.functions if name != version.default_function)]
        limits = {"max_items": "1"}
        self._tasks = tuple(TaskInfo(name, ANYTHING, (JSON,), version.app, (), limits) for name in names)

    def tasks(self) -> Sequence[TaskInfo]:
        return self._tasks

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        """Partial outputs while the task runs, with `stream`, then its output."""
        function = task_of(self, request.task).name
        if len(request.items) != 1:
            raise InvalidField(f"payload: {self.name} takes one payload; the request has {len(request.items)}")
        stored: list[str] = []
        task_id = _NO_TASK
        try:
            given = await self._input(self._version.functions[function], request, stored)
            task, _ = await self._parts.scheduler.submit(
                Submission(
                    app=self._version.app,
                    app_version=self._version.version,
                    function=function,
                    input=given,
                    owner=request.owner,
                    timeout=scope.remaining(),
                    metadata={"service": self.name},
                )
            )
            task_id = task.id
            number = 0
            async with aclosing(self._follow(task.id)) as updates:
                while (update := await _next(updates, scope)) is not None:
                    task = update
                    if stream and not task.terminal and task.output is not None:
                        yield self._message(task, number)
                        number += 1
            if task.error_code == DeadlineExceeded.code:  # the task's deadline is the request's
                scope.expire()
                scope.check()
            yield self._final(task, number)
            task_id = _NO_TASK
        finally:
            await asyncio.shield(self._clean(task_id, stored))

    async def _follow(self, task_id: str) -> AsyncGenerator[Task, None]:
        with await self._parts.feed.watch(task_id) as watch:
            async for update in watch:
                yield update.task

    def _message(self, task: Task, number: int) -> InferResult:
        output = self._parts.links.externalize(task.output, self._parts.links.default_base, task.owner)
        return InferResult(msgspec.json.encode(output), JSON, "", {"task_id": task.id}, seq=number)

    def _final(self, task: Task, number: int) -> InferResult:
        if task.status is Status.COMPLETED:
            return _last(self._message(task, number), number)
        if task.status is Status.CANCELLED:
            raise Cancelled("the task was cancelled")
        if not task.terminal:
            raise Unavailable("the server is shutting down", retry_after=5)
        raise AppRunFailed(task.error or "the task failed")

    async def _clean(self, task_id: str, stored: list[str]) -> None:
        """Cancel the task if its client is gone, and delete the payload's file."""
        try:
            if task_id:
                await self._parts.scheduler.cancel(task_id)
            for file_id in stored:
                await self._parts.files.delete(file_id)
        except MienError:
            return  # the server stops; the file expires

    async def _input(self, schema: FunctionSchema, request: InferRequest, stored: list[str]) -> Encoded:
        """The app's input, its payload stored if it is to be a file; the file's id is added to `stored`."""
        item, run = request.items[0], self._parts.offload.run
        size = len(item.data) if item.mime == JSON or item.mime.startswith("text/") else 0  # others are files
        given = await run(size, self._fields, schema, request)
        fields = given.fields
        if given.file_field is not None:
            fields = fields | {given.file_field: await self._keep(item, request.owner, stored)}
        encoded = await run(size, Encoded.of, fields)
        if SCHEME in encoded.text:
            references = await run(size, file_references, fields)
            await require_files(self._parts.files, references, "payload", request.owner)
        return encoded

    def _fields(self, schema: FunctionSchema, request: InferRequest) -> AppInput:
        links = self._parts.links
        given = app_input(
            schema.input_schema, request.items[0], request.metadata, service=self.name, limits=self._parts.limits
        )
        return AppInput(links.internalize(given.fields, links.default_base), given.file_field)

    async def _keep(self, item: Item, owner: str, stored: list[str]) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield item.data

        suffix = item.mime.partition("/")[2].partition("+")[0]
        new = NewFile(filename=f"payload.{suffix}", content_type=item.mime, owner=owner, keep_seconds=PAYLOAD_SECONDS)
        record = await self._parts.files.create(new)
        stored.append(record.id)
        return file_uri(await self._parts.files.write(record.id, chunks()))


async def _next(updates: AsyncIterator[Task], scope: CancelScope) -> Task | None:
    """The next update, None after the last one. Raises DeadlineExceeded, Cancelled.

    Bounded here and not around the loop: a scope that ends while the consumer of a generator is at work would interrupt
    the consumer.
    """
    async with scope.bounding():
        return await anext(updates, None)


def _last(message: InferResult, number: int) -> InferResult:
    """The message as the last one."""
    return InferResult(
        message.data, message.mime, message.schema, message.meta, is_final=True, seq=number, total=0 if number else 1
    )
