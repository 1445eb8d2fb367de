"""Reading a request's body: refused by its announced size, counted while it comes, never over the limit."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack

from starlette.requests import ClientDisconnect, Request

from mien.engine.admission import Admission
from mien.errors import BodyTooLarge, BodyTooSlow, Cancelled, RequestError

ONE_MESSAGE = 64 * 1024  # bytes that the server reads from a socket at once
HUNG_UP = "the client went away while it sent the body"
STEP = 1024 * 1024  # bytes of room taken at a time for a body of unknown size


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


async def limited_stream(
    request: Request, limit: int, admission: Admission, room: ExitStack
) -> AsyncGenerator[bytes, None]:
    """The body's chunks, with room for them held in `room` before they are read."""
    size = announced_size(request, limit)
    held = size or 0
    room.enter_context(admission.body(held))
    total = 0
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > limit:
                raise BodyTooLarge(f"the body is over {limit} bytes, the most that this server reads")
            while total > held:
                room.enter_context(admission.body(STEP))
                held += STEP
            yield chunk
    except ClientDisconnect:
        raise Cancelled(HUNG_UP) from None


async def read_body(
    request: Request, limit: int, admission: Admission, room: ExitStack, *, seconds: float
) -> bytes | bytearray:
    """The whole body. Raises BodyTooLarge, BodyTooSlow, Overloaded, Unavailable, Cancelled."""
    size = announced_size(request, limit)
    try:
        async with asyncio.timeout(seconds):
            if size is not None and size <= ONE_MESSAGE:
                return await _small_body(request, size, admission, room)
            chunks = bytearray()
            async for chunk in limited_stream(request, limit, admission, room):
                if len(chunk) == size:
                    return chunk
                chunks += chunk
            return chunks
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} s") from None


async def _small_body(request: Request, size: int, admission: Admission, room: ExitStack) -> bytes:
    """A body that usually comes in one message: its announced size holds, since the HTTP parser counts along."""
    room.enter_context(admission.body(size))
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Cancelled(HUNG_UP)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
