"""Bodies in memory: every API reads them with the same limits."""

import asyncio
import gzip
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.requests import Request

from mien.engine.admission import Admission
from mien.engine.offload import LARGE_BODY
from mien.engine.threads import ThreadPool
from mien.errors import BodyTooLarge, BodyTooSlow, Cancelled, Overloaded, RequestError, UnsupportedMediaType
from mien.http.body import BodyReader
from mien.settings import Limits

MiB = 1024 * 1024


@pytest.fixture
def threads() -> Iterator[ThreadPool]:
    pool = ThreadPool(1)
    yield pool
    pool.close()


@pytest.fixture
def bodies(threads: ThreadPool) -> Iterator[BodyReader]:
    yield from reader_of(threads, request_timeout=20)


@pytest.fixture
def impatient(threads: ThreadPool) -> Iterator[BodyReader]:
    yield from reader_of(threads, request_timeout=0.2)


def reader_of(threads: ThreadPool, request_timeout: float) -> Iterator[BodyReader]:
    limits = Limits(max_body_bytes=4 * MiB, queue_bytes=3 * MiB, request_timeout=request_timeout)
    reader = BodyReader(limits, Admission.from_settings(limits), threads)
    yield reader
    reader.close()


def request(*pieces: bytes, announced: int | str | None = None, end: str = "whole") -> Request:
    """A request whose body comes in `pieces`; after them it is whole, silent or the client disconnects."""
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        if waiting:
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting) or end != "whole"}
        if end == "silent":
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    return Request({"type": "http", "headers": headers}, receive)


@pytest.mark.parametrize("announced", [None, 200_001])
async def test_a_body_counts_as_admitted_until_its_request_is_done(bodies: BodyReader, announced: int | None) -> None:
    with ExitStack() as admitted:
        body = await bodies.read(request(b"a" * 200_000, b"b", announced=announced), admitted)
        assert body == b"a" * 200_000 + b"b"
        assert bodies.admission.bytes >= len(body)
    assert bodies.admission.idle


@pytest.mark.parametrize("announced", [1000, 2 * MiB, None])
async def test_unfinished_bodies_fill_the_queue(bodies: BodyReader, announced: int | None) -> None:
    """Those that announce their size before a byte of them has arrived, the others as they grow."""
    with ExitStack() as admitted:
        slow = asyncio.create_task(
            bodies.read(request(b"x" * (3 * MiB - 1000), announced=3 * MiB - 500, end="silent"), admitted)
        )
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await bodies.read(request(b"x" * 1000, announced=announced), admitted)
        slow.cancel()


async def test_a_body_that_never_ends_is_given_up(impatient: BodyReader) -> None:
    for announced in (1000, MiB, None):
        with ExitStack() as admitted, pytest.raises(BodyTooSlow, match=r"did not arrive within 0\.2 s"):
            await impatient.read(request(b"x", announced=announced, end="silent"), admitted)
    assert impatient.admission.idle


async def test_a_client_that_disconnects_cancels_its_request(bodies: BodyReader) -> None:
    for announced in (1000, MiB, None):
        with ExitStack() as admitted, pytest.raises(Cancelled):
            await bodies.read(request(b"x", announced=announced, end="gone"), admitted)


async def test_the_limit_holds_for_announced_and_for_growing_bodies(bodies: BodyReader) -> None:
    with ExitStack() as admitted:
        for announced in (1001, None):
            with pytest.raises(BodyTooLarge):
                await bodies.read(request(b"x" * 1001, announced=announced), admitted, limit=1000)
        with pytest.raises(RequestError, match="Content-Length"):
            await bodies.read(request(b"x", announced="1e3"), admitted)


async def test_only_large_bodies_are_parsed_in_a_thread(bodies: BodyReader) -> None:
    def parser(body: bytes, word: str) -> tuple[int, str, str]:
        return len(body), word, threading.current_thread().name

    assert await bodies.parse(parser, b"x", "a") == (1, "a", threading.current_thread().name)
    size, word, thread = await bodies.parse(parser, b"x" * (LARGE_BODY + 1), "b")
    assert (size, word) == (LARGE_BODY + 1, "b")
    assert thread != threading.current_thread().name


async def test_the_event_loop_runs_while_a_large_value_is_validated(bodies: BodyReader) -> None:
    """The value must not be able to stop the server: the loop has to run before the work can end."""
    reached = threading.Event()

    def validate(value: str) -> bool:
        return value == "large" and reached.wait(10)

    validating = asyncio.create_task(bodies.offload.run(LARGE_BODY + 1, validate, "large"))
    await asyncio.sleep(0)
    reached.set()
    assert await validating


# --- Content-Encoding: what is packed is unpacked as it arrives


def packed_request(*pieces: bytes, encoding: str = "gzip", announced: int | None = None) -> Request:
    sent = request(*pieces, announced=announced)
    sent.scope["headers"].append((b"content-encoding", encoding.encode()))
    return sent


@pytest.mark.parametrize("content", [b"", b"x", b"content " * 100_000, bytes(2 * MiB)])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_gzip_body_is_read_as_its_content(bodies: BodyReader, content: bytes, pieces: int) -> None:
    packed = gzip.compress(content) + (gzip.compress(b" more") if content else b"")
    size = -(-len(packed) // pieces)
    parts = [packed[at : at + size] for at in range(0, len(packed), size)]
    with ExitStack() as admitted:
        body = await bodies.read(packed_request(*parts, encoding="GZIP", announced=len(packed)), admitted)
        assert body == content + (b" more" if content else b"")
        assert bodies.admission.bytes >= len(body)
    assert bodies.admission.idle


async def test_a_bomb_is_stopped_at_the_limit_of_its_content(bodies: BodyReader) -> None:
    with ExitStack() as admitted, pytest.raises(BodyTooLarge, match="once unpacked"):
        await bodies.read(packed_request(gzip.compress(bytes(64 * MiB))), admitted, limit=MiB)


async def test_what_is_unpacked_counts_into_the_queue(bodies: BodyReader) -> None:
    with ExitStack() as admitted, pytest.raises(Overloaded):
        await bodies.read(packed_request(gzip.compress(bytes(4 * MiB))), admitted)


@pytest.mark.parametrize(
    "wrong",
    [b"plain", gzip.compress(b"x" * 1000)[:-1], gzip.compress(b"x") + b"rest"],
    ids=["plain", "cut off", "followed by more"],
)
async def test_what_is_no_gzip_is_refused(bodies: BodyReader, wrong: bytes) -> None:
    with ExitStack() as admitted, pytest.raises(RequestError, match="gzip"):
        await bodies.read(packed_request(wrong), admitted)


async def test_members_with_content_may_be_many(bodies: BodyReader) -> None:
    content = random.Random(1).randbytes(2000)
    with ExitStack() as admitted:
        read = await bodies.read(packed_request(gzip.compress(content) * 200), admitted)
    assert read == content * 200


@pytest.mark.parametrize("content", [b"", b"x" * 100])
async def test_many_members_with_little_content_are_refused(bodies: BodyReader, content: bytes) -> None:
    with ExitStack() as admitted, pytest.raises(RequestError, match=r"members for .* pack the content into one"):
        await bodies.read(packed_request(gzip.compress(content) * 10_000), admitted)


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br"])
async def test_other_encodings_are_refused_by_name(bodies: BodyReader, encoding: str) -> None:
    with ExitStack() as admitted, pytest.raises(UnsupportedMediaType, match=f"Content-Encoding is '{encoding}'"):
        await bodies.read(packed_request(b"x", encoding=encoding, announced=1), admitted)


async def test_a_body_without_encoding_may_say_so(bodies: BodyReader) -> None:
    with ExitStack() as admitted:
        assert await bodies.read(packed_request(b"x", encoding="identity", announced=1), admitted) == b"x"
