"""Compression of responses: only what is long, whole and text, and only for clients that ask for it."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from mien.engine.threads import ThreadPool
from mien.http.compress import Compress

LONG = {"text": "value " * 1000}
HUGE = {"text": "value " * 100_000}


@pytest.fixture
def threads() -> Iterator[ThreadPool]:
    pool = ThreadPool(1)
    yield pool
    pool.close()


async def answered(response: Any, threads: ThreadPool, asked: str | None = "gzip", method: str = "GET") -> Any:
    """Status, headers and body, as they come through the middleware."""
    headers = [] if asked is None else [(b"accept-encoding", asked.encode())]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": method, "headers": headers}
    await Compress(response, threads)(scope, receive, send)
    assert [message["type"] for message in sent].count("http.response.start") == 1
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return found, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("content", [LONG, HUGE])
@pytest.mark.parametrize("asked", ["gzip", "GZIP", "br, gzip;q=0.5", "*", "deflate, *;q=0.1", "gzip , identity"])
async def test_long_json_is_compressed_on_request(asked: str, content: Any, threads: ThreadPool) -> None:
    response = JSONResponse(content, headers={"ETag": '"x"', "Vary": "Origin"})
    headers, body = await answered(response, threads, asked)
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Origin, Accept-Encoding"
    assert headers["etag"] == 'W/"x"'
    assert int(headers["content-length"]) == len(body)
    assert gzip.decompress(body) == JSONResponse(content).body


@pytest.mark.parametrize(
    "asked", [None, "", "br", "identity", "gzip;q=0", "gzip;q=0.000, *", "gzip;q=x", "*;q=0", "gzippy"]
)
async def test_nobody_gets_what_they_did_not_ask_for(asked: str | None, threads: ThreadPool) -> None:
    headers, body = await answered(JSONResponse(LONG), threads, asked)
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"
    assert body == JSONResponse(LONG).body


async def stream() -> AsyncIterator[bytes]:
    yield b"x" * 2000
    yield b"y" * 2000


@pytest.mark.parametrize(
    "response",
    [
        JSONResponse({"short": True}),
        Response(b"x" * 2000, media_type="image/jpeg"),
        Response(b"x" * 2000, media_type="application/x-msgpack"),
        Response(b"x" * 2000, media_type="application/json", headers={"Content-Encoding": "br"}),
        Response(b"x" * 2000, 206, {"Content-Range": "bytes 0-1999/4000"}, media_type="application/json"),
        StreamingResponse(stream(), media_type="text/event-stream"),
        StreamingResponse(stream(), media_type="application/json"),
    ],
    ids=["short", "image", "msgpack", "encoded", "range", "events", "stream"],
)
async def test_other_responses_pass_through(response: Response, threads: ThreadPool) -> None:
    headers, _ = await answered(response, threads)
    assert headers.get("content-encoding") in (None, "br")
    assert "vary" not in headers


async def test_head_is_not_compressed_but_says_that_get_may_be(threads: ThreadPool) -> None:
    headers, _ = await answered(JSONResponse(LONG), threads, method="HEAD")
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"
