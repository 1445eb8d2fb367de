"""Built-in apps: this server's services as apps, on its own models, without worker processes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from mien.base64 import decode_base64
from mien.detection_size import LEAST as LEAST_DETECTION_SIZE
from mien.detection_size import MOST as LARGEST_DETECTION_SIZE
from mien.engine.cancellation import CancelScope
from mien.errors import ImageError, InvalidField, MienError, NotFound
from mien.inference.contract import InferRequest, Item
from mien.inference.registry import ServiceRegistry
from mien.inference.sniff import media_type
from mien.net.fetch import Fetcher
from mien.storage.file_records import SCHEME
from mien.storage.file_store import FileStore
from mien.storage.links import file_id, quoted_texts, unquoted_texts
from mien.tasks.executor import AppFailed, Reporter, StopReason
from mien.tasks.records import Attempt, Candidate
from mien.workers.fit import Fit
from mien.workers.listener import Stage

_FILE = {"type": "string", "format": "file", "description": "A file of this server, an http(s) URL or a data: URI"}


@dataclass(frozen=True, slots=True)
class BuiltinApp:
    """An app that is a service of this server."""

    name: str
    """`mien/…`."""
    description: str
    service: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})


def _schema(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


_NUMBER = {"type": "number"}
_FLAG = {"type": "boolean"}
BUILTIN = {
    app.name: app
    for app in (
        BuiltinApp(
            "mien/faces",
            "Faces of an image: boxes, landmarks, scores and embeddings",
            "face_recognition",
            _schema(
                ["image"],
                image=_FILE,
                detection_confidence_threshold={**_NUMBER, "minimum": 0, "maximum": 1},
                nms_threshold={**_NUMBER, "minimum": 0, "maximum": 1},
                face_size_min={**_NUMBER, "minimum": 0},
                face_size_max={**_NUMBER, "minimum": 0},
                max_faces={"type": "integer", "minimum": -1},
                recogniser={"type": "string"},
                return_quality=_FLAG,
                return_pose=_FLAG,
                return_landmarks_68=_FLAG,
                rotate={"enum": ["auto", "off"]},
                detection_size={
                    "anyOf": [
                        {"enum": ["auto", "full"]},
                        {"type": "integer", "minimum": LEAST_DETECTION_SIZE, "maximum": LARGEST_DETECTION_SIZE},
                    ]
                },
            ),
        ),
        BuiltinApp(
            "mien/embed",
            "The vector of an image or a text",
            "embedding",
            {
                **_schema([], image=_FILE, text={"type": "string"}),
                "oneOf": [{"required": ["image"]}, {"required": ["text"]}],
            },
        ),
        BuiltinApp(
            "mien/classify",
            "What an image shows, the likeliest first",
            "classification",
            _schema(
                ["image"],
                image=_FILE,
                top_k={"type": "integer", "minimum": 1},
                labels={"type": "array", "items": {"type": "string"}, "description": "What it may be; needs a CLIP"},
                template={"type": "string", "description": "What a CLIP compares with: `a photo of a {}`"},
            ),
        ),
    )
}


def is_builtin(app: str, version: str) -> bool:
    """Whether the task's app is one of these: a deployed app always has a version."""
    return not version and app in BUILTIN


class BuiltinExecutor:
    """Implements the scheduler's Executor for the built-in apps. Their tasks wait until `loaded` is set."""

    def __init__(
        self,
        files: FileStore,
        services: ServiceRegistry,
        fetcher: Fetcher,
        loaded: asyncio.Event,
        *,
        concurrency: int,
        max_bytes: int,
    ) -> None:
        """`loaded`: the registry has the built-in services. `concurrency`: tasks at once. `max_bytes`: of one image."""
        self._files = files
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        self._occupied: set[str] = set()
        self._scopes: dict[str, CancelScope] = {}
        self._services = services
        self._fetcher = fetcher
        self._loaded = loaded

    def takes(self, candidate: Candidate) -> bool:
        return is_builtin(candidate.app, candidate.app_version)

    def fit(self, candidate: Candidate) -> Fit:
        if not self._loaded.is_set():
            return Fit.BLOCKED  # by the models, which are still loading: other tasks need not wait behind it
        return Fit.WARM if len(self._occupied) < self._concurrency else Fit.NO_CAPACITY

    def reserve(self, candidate: Candidate) -> None:
        self._occupied.add(candidate.id)

    def release(self, task_id: str) -> None:
        self._occupied.discard(task_id)

    def grace(self, candidate: Candidate) -> float | None:
        return None

    async def execute(self, attempt: Attempt, report: Reporter) -> Any:
        scope = self._scopes[attempt.id] = CancelScope()
        report.worker("engine")
        try:
            report.stage(Stage.PREPARING)
            item, metadata = await self._payload(attempt.task.input.value or {}, attempt.task.owner, scope)
            report.stage(Stage.RUNNING)
            return await self._infer(BUILTIN[attempt.task.app], item, metadata, attempt.task.owner, scope)
        except MienError as error:
            raise AppFailed(error.message, error.code) from error
        finally:
            del self._scopes[attempt.id]
            self._occupied.discard(attempt.id)

    def stop(self, task_id: str, reason: StopReason, grace: float) -> None:
        if (scope := self._scopes.get(task_id)) is not None:
            scope.cancel()

    async def reap(self) -> None:
        """There are no processes."""

    async def _infer(
        self, app: BuiltinApp, item: Item, metadata: Mapping[str, str], owner: str, scope: CancelScope
    ) -> Any:
        try:
            service = self._services.resolve(app.service)
        except NotFound:
            raise NotFound(
                f"{app.name} needs the service {app.service}, whose model this server did not load"
            ) from None
        request = InferRequest((item,), metadata=metadata, owner=owner)
        async for result in service.infer(request, scope, stream=False):
            if result.is_final:
                output = msgspec.json.decode(result.data) if result.value is None else result.value.plain()
                return quoted_texts(output)
        raise AppFailed(f"{app.name} gave no answer")

    async def _payload(self, given: Mapping[str, Any], owner: str, scope: CancelScope) -> tuple[Item, dict[str, str]]:
        """The payload and, as metadata, the remaining fields."""
        given = {key: value if key == "image" else unquoted_texts(value) for key, value in given.items()}
        fields = {
            key: _text(value) for key, value in given.items() if key not in ("image", "text") and value is not None
        }
        if isinstance(text := given.get("text"), str):
            return Item(text.encode("utf-8", "replace"), "text/plain"), fields
        image = given.get("image")
        location = image.get("uri") if isinstance(image, dict) else image
        if not isinstance(location, str):
            raise InvalidField("image: expected a file of this server, an http(s) URL or a data: URI")
        data = await self._read(location, owner, scope)
        return Item(data, await asyncio.to_thread(media_type, data)), fields

    async def _read(self, location: str, owner: str, scope: CancelScope) -> bytes:
        if location.startswith(SCHEME) and (known := file_id(location)) is not None:
            return await self._stored(known, owner)
        if location.startswith("data:"):
            return data_uri(location)
        if location.startswith(("http://", "https://")):
            async with scope.bounding():
                return bytes(await self._fetcher.fetch(location, {}))
        raise InvalidField("image: expected a file of this server, an http(s) URL or a data: URI")

    async def _stored(self, known: str, owner: str) -> bytes:
        record = await self._files.get(known, owner)
        if (record.size or 0) > self._max_bytes:
            raise InvalidField(f"image: the file has {record.size} bytes; an image may have {self._max_bytes}")
        content = await self._files.open(known)
        try:
            return b"".join([block async for block in content])
        finally:
            await content.aclose()


def data_uri(uri: str) -> bytes:
    """The bytes of a `data:` URI. Raises InvalidField."""
    head, comma, body = uri.partition(",")
    if not comma:
        raise InvalidField("image: the data: URI has no comma")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return decode_base64(body, max_bytes=len(body))
    except ImageError:
        raise InvalidField("image: the data: URI is not base64") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
