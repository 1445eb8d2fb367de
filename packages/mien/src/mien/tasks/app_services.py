"""Apps with a `service` name in their inf.yml as services: a payload in, outputs as they come, a durable task."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from mien.apps.record import AppVersion, Deployed, FunctionSchema
from mien.apps.registry import AppRegistry
from mien.encoded import Encoded
from mien.engine.cancellation import CancelScope
from mien.errors import AppRunFailed, Cancelled, InvalidField, MienError, Unavailable
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.registry import ServiceRegistry, task_of
from mien.storage.file_records import NewFile
from mien.storage.file_store import FileStore
from mien.storage.links import Links, inside
from mien.tasks.feed import Feed
from mien.tasks.records import Submission, Task
from mien.tasks.scheduler import Scheduler
from mien.tasks.status import Status

JSON = "application/json"
ANYTHING = ("image/*", "audio/*", "video/*", "text/plain", JSON, "application/octet-stream")
_NO_TASK = ""
PAYLOAD_SECONDS = 86400.0
"""How long a payload is kept that nobody came to remove: its server was killed, and another one runs its task."""


class AppServices:
    """Keeps the registry of services in step with the deployed apps."""

    def __init__(
        self,
        apps: AppRegistry,
        services: ServiceRegistry,
        loaded: asyncio.Event,
        scheduler: Scheduler,
        feed: Feed,
        files: FileStore,
        links: Links,
    ) -> None:
        """`loaded`: the registry has the built-in services, which no app replaces."""
        self.scheduler = scheduler
        self.feed = feed
        self.files = files
        self.links = links
        self._apps = apps
        self._services = services
        self._loaded = loaded
        self._known: dict[str, str] = {}

    async def refresh(self) -> None:
        """Look at the deployed apps again. Does nothing before the built-in services are known."""
        if not self._loaded.is_set():
            return
        wanted: dict[str, Deployed] = {}
        deployed_apps = await asyncio.to_thread(self._apps.all)
        builtin = {service.name for service in self._services.local()} - self._known.keys()
        for deployed in deployed_apps:
            name = deployed.version.manifest.service.strip().lower()
            if name and name not in builtin:
                wanted.setdefault(name, deployed)
        for name in self._known.keys() - wanted.keys():
            self._services.remove(name)
            del self._known[name]
        for name, deployed in wanted.items():
            if self._known.get(name) != deployed.version.version:
                self._services.add(AppService(name, deployed.version, self))
                self._known[name] = deployed.version.version


class AppService:
    """One version of an app, asked for by its service name. Its functions are the service's tasks."""

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
        """Messages: partial outputs while the task runs, then its output."""
        function = task_of(self, request.task).name
        if len(request.items) != 1:
            raise InvalidField(f"payload: {self.name} takes one payload; the request has {len(request.items)}")
        stored: list[str] = []
        task_id = _NO_TASK
        try:
            given = await self._input(self._version.functions[function], request.items[0], request.metadata, stored)
            given = self._parts.links.internalize(given, self._parts.links.default_base)
            task, _ = await self._parts.scheduler.submit(
                Submission(
                    app=self._version.app,
                    app_version=self._version.version,
                    function=function,
                    input=Encoded.of(given),
                    timeout=scope.remaining(),
                    metadata={"service": self.name},
                )
            )
            task_id = task.id
            number = 0
            async with scope.bounding():
                async for update in self._follow(task.id):
                    task = update
                    if stream and not task.terminal and task.output is not None:
                        yield self._message(task, number)
                        number += 1
            yield self._final(task, number)
            task_id = _NO_TASK
        finally:
            await asyncio.shield(self._clean(task_id, stored))

    async def _follow(self, task_id: str) -> AsyncIterator[Task]:
        with await self._parts.feed.watch(task_id) as watch:
            async for update in watch:
                yield update.task

    def _message(self, task: Task, number: int) -> InferResult:
        output = self._parts.links.externalize(task.output, self._parts.links.default_base)
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
        """Cancel what nobody waits for any more, and drop the payload's file."""
        try:
            if task_id:
                await self._parts.scheduler.cancel(task_id)
            for file_id in stored:
                await self._parts.files.delete(file_id)
        except MienError:
            return  # the server stops; the file expires

    async def _input(
        self, schema: FunctionSchema, item: Item, metadata: Mapping[str, str], stored: list[str]
    ) -> dict[str, Any]:
        """The payload in the field that is made for it, the metadata in the fields of their names."""
        whole = schema.input_schema
        properties: dict[str, Any] = whole.get("properties") or {}
        if item.mime == JSON:
            try:
                given = msgspec.json.decode(item.data)
            except msgspec.DecodeError as error:
                raise InvalidField(f"payload: no JSON: {error}") from None
            if not isinstance(given, dict):
                raise InvalidField("payload: JSON for an app is an object with its input's fields")
            return given
        fields = {key: _typed(value, properties[key], whole) for key, value in metadata.items() if key in properties}
        free = [key for key in properties if key not in fields]
        files = [key for key in free if _is_file(properties[key], whole)]
        texts = [key for key in free if key not in files and _types(properties[key], whole) & {"string"}]
        if item.mime.startswith("text/") and texts:
            fields[texts[0]] = item.data.decode("utf-8", "replace")
        elif files or texts:
            fields[(files or texts)[0]] = await self._keep(item, stored)
        elif item.data:
            raise InvalidField(f"payload: {self.name} has no field for one; send application/json")
        return fields

    async def _keep(self, item: Item, stored: list[str]) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield item.data

        suffix = item.mime.partition("/")[2].partition("+")[0]
        new = NewFile(filename=f"payload.{suffix}", content_type=item.mime, keep_seconds=PAYLOAD_SECONDS)
        record = await self._parts.files.create(new)
        stored.append(record.id)
        return inside(await self._parts.files.write(record.id, chunks()))


def _last(message: InferResult, number: int) -> InferResult:
    """The message as the last one."""
    return InferResult(
        message.data, message.mime, message.schema, message.meta, is_final=True, seq=number, total=0 if number else 1
    )


def _choices(schema: Any, whole: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A field's schema and its alternatives."""
    found: list[Mapping[str, Any]] = []
    waiting = [schema]
    while waiting and len(found) < 50:
        one = waiting.pop()
        if not isinstance(one, Mapping):
            continue
        found.append(one)
        waiting += [*one.get("anyOf", ()), *one.get("oneOf", ()), *one.get("allOf", ())]
        if isinstance(ref := one.get("$ref"), str) and ref.startswith("#/$defs/"):
            waiting.append(whole.get("$defs", {}).get(ref.removeprefix("#/$defs/")))
    return found


def _is_file(schema: Any, whole: Mapping[str, Any]) -> bool:
    return any(one.get("format") == "file" for one in _choices(schema, whole))


def _types(schema: Any, whole: Mapping[str, Any]) -> set[str]:
    return {kind for one in _choices(schema, whole) if isinstance(kind := one.get("type"), str)}


def _typed(text: str, schema: Any, whole: Mapping[str, Any]) -> Any:
    """A metadata value as the field's type wants it; the text where it does not read as that."""
    if not _types(schema, whole) - {"string", "null"}:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
