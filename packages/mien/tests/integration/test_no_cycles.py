"""What a request held is free when it is answered, without the garbage collector: images are too large to wait."""

import asyncio
import base64
import gc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import orjson
import ormsgpack
import pytest
from starlette.types import ASGIApp

from mien.app import create_app
from mien.settings import Settings

LARGE = 10_000  # bytes: less is no image, tensor or body
JSON = "application/json"
MSGPACK = "application/msgpack"


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """Asks an application in this process, whose garbage can be looked at."""
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("data")))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            runner.run(stack.enter_async_context(app.router.lifespan_context(app)))
            while runner.run(answered(app, "GET", "/readyz", b"", JSON)) != 200:
                runner.run(asyncio.sleep(0.1))
            yield lambda path, body, kind: runner.run(answered(app, "POST", path, body, kind))
        finally:
            runner.run(stack.aclose())
            gc.unfreeze()


async def answered(app: ASGIApp, method: str, path: str, body: bytes, kind: str) -> int:
    """The status of the answer once all of it is there. No client: that would leave garbage of its own."""
    status: list[int] = []
    given = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if given:
            return given.pop()
        await asyncio.Event().wait()  # no disconnect
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    headers = [(b"host", b"127.0.0.1:8080"), (b"content-type", kind.encode()), (b"accept", kind.encode())]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path, "query_string": b"",
        "raw_path": path.encode(), "headers": headers, "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 8080),
    }  # fmt: skip
    await app(scope, receive, send)
    return status[0]


def large_garbage() -> list[str]:
    """What only the garbage collector can free, if it is large: what it is and what holds it."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [
            f"{type(held).__name__} of {size(held)} bytes in a {type(holder).__name__}"
            for holder in gc.garbage
            for held in (holder, *gc.get_referents(holder))
            if size(held) > LARGE
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return len(value) if isinstance(value, bytes | bytearray | str | memoryview) else 0


def extract(*images: bytes, **options: Any) -> tuple[str, bytes, str]:
    return "/extract", ormsgpack.packb({"images": {"data": images}, **options}), MSGPACK


def as_json(path: str, **body: Any) -> tuple[str, bytes, str]:
    return path, orjson.dumps(body), JSON


def infer(service: str, *images: bytes, **options: Any) -> tuple[str, bytes, str]:
    payload: Any = [encoded(image) for image in images]
    payload = payload if len(payload) > 1 else payload[0]
    return as_json("/v1/infer", service=service, payload=payload, payload_mime="image/jpeg", **options)


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def damaged(photo: bytes) -> bytes:
    return b"\xff\xd8\xff" + photo[3:5000] * 5


CASES: dict[str, tuple[int, Callable[[bytes, bytes], tuple[str, bytes, str]]]] = {
    "one image": (200, lambda photo, _: extract(photo)),
    "many faces and a bad image": (200, lambda photo, collage: extract(collage, b"no image" * 5000, photo)),
    "a damaged image among others": (200, lambda photo, _: extract(photo, damaged(photo))),
    "crops": (200, lambda photo, _: extract(photo, return_face_data=True)),
    "JSON": (200, lambda photo, _: as_json("/extract", images={"data": [encoded(photo)]}, extract_ga=True)),
    "a wrong field": (422, lambda photo, _: extract(photo, threshold="high")),
    "a drawing": (200, lambda photo, _: as_json("/draw_detections", images={"data": [encoded(photo)]})),
    "face recognition": (200, lambda photo, _: infer("face_recognition", photo)),
    "an embedding": (200, lambda photo, _: infer("embedding", photo)),
    "a classification": (200, lambda photo, _: infer("classification", photo)),
    "a stream": (200, lambda photo, _: infer("face_detection", photo, _stream=True)),
    "a damaged payload": (422, lambda photo, _: infer("face_detection", damaged(photo))),
    "a stream of a damaged payload": (422, lambda photo, _: infer("face_detection", damaged(photo), _stream=True)),
    "a damaged payload among others": (200, lambda photo, _: infer("face_detection", damaged(photo), photo)),
    "a service that is not there": (404, lambda photo, _: infer("palmistry", photo)),
    "an app that is not there": (404, lambda photo, _: as_json("/run", app="no/app", input={"a": encoded(photo)})),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_leaves_nothing_large_to_the_garbage_collector(
    name: str, post: Callable[..., int], photo: bytes, collage: bytes
) -> None:
    expected, request = CASES[name]
    for _ in range(2):  # the first may import and cache
        path, body, kind = request(photo, collage)
        gc.collect()
        gc.disable()
        try:
            status = post(path, body, kind)
            left = large_garbage()
        finally:
            gc.enable()
        assert status == expected
    assert left == []
