"""Reading a request's body: refused by its announced size, counted while it arrives, never over the limit."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack

from starlette.requests import ClientDisconnect, Request

from mien.engine.admission import Admission
from mien.errors import BodyTooLarge, BodyTooSlow, Cancelled, RequestError

ONE_MESSAGE = 64 * 1024  # bytes that the server reads from a socket at once
STEP = 1024 * 1024  # bytes reserved at a time for a body of unknown size
SILENCE_SECONDS = 60.0
DISCONNECTED = "the client went away while it sent the body"


def announced_size(request: Request, limit: int) -> int | None:
    """Content-Length; None for a chunked body. Raises BodyTooLarge, RequestError."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isdecimal():
        raise RequestError(f"Content-Length is {text[:40]!r}; expected a number of bytes")
    if int(text) > limit:
        raise BodyTooLarge(f"the body has {text} bytes; this server reads at most {limit}")
    return int(text)


async def read_body(
    request: Request, limit: int, admission: Admission, room: ExitStack, *, seconds: float
) -> bytes | bytearray:
    """The whole body. Its bytes count as admitted until `room` closes.

    Raises BodyTooLarge, BodyTooSlow, Overloaded, Unavailable, Cancelled.
    """
    size = announced_size(request, limit)
    try:
        async with asyncio.timeout(seconds):
            if size is not None and size <= ONE_MESSAGE:
                return await _small_body(request, size, admission, room)
            body = bytearray()
            async for chunk in admitted_chunks(request, limit, admission, room):
                if len(chunk) == size:
                    return chunk
                body += chunk
            return body
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} s") from None


async def admitted_chunks(
    request: Request, limit: int, admission: Admission, room: ExitStack
) -> AsyncGenerator[bytes, None]:
    """The body's chunks for a reader that keeps them in memory: each is admitted before it is read.

    Raises BodyTooLarge, Overloaded, Unavailable, Cancelled.
    """
    held = announced_size(request, limit) or 0
    room.enter_context(admission.body(held))
    total = 0
    async for chunk in _chunks(request, limit):
        total += len(chunk)
        while total > held:
            room.enter_context(admission.body(STEP))
            held += STEP
        yield chunk


async def chunks_to_disk(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks for a reader that writes them to disk: any total time, but not silence.

    Raises BodyTooLarge, BodyTooSlow, Cancelled.
    """
    announced_size(request, limit)
    chunks = _chunks(request, limit)
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise BodyTooSlow(f"nothing of the body arrived for {SILENCE_SECONDS:g} s") from None
        if chunk is None:
            return
        yield chunk


async def _chunks(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    total = 0
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > limit:
                raise BodyTooLarge(f"the body is over {limit} bytes, the most that this server reads")
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise Cancelled(DISCONNECTED) from None


async def _small_body(request: Request, size: int, admission: Admission, room: ExitStack) -> bytes:
    """A body that usually arrives in one message: its announced size holds, since the HTTP parser enforces it."""
    room.enter_context(admission.body(size))
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Cancelled(DISCONNECTED)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
