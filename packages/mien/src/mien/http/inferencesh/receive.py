"""Bodies of this door: counted while they come, given up when they stop coming."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect, Request

from mien.errors import BodyTooLarge, BodyTooSlow, Cancelled
from mien.http.body import announced_size

SILENCE_SECONDS = 60.0


async def body_chunks(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises BodyTooLarge, BodyTooSlow after a minute's silence, Cancelled."""
    announced_size(request, limit)
    total = 0
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise BodyTooSlow(f"nothing of the body came for {SILENCE_SECONDS:g} s") from None
        except ClientDisconnect:
            raise Cancelled("the client went away while it sent the body") from None
        if chunk is None:
            return
        total += len(chunk)
        if total > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes, the most that this route reads")
        if chunk:
            yield chunk


async def read_body(request: Request, limit: int) -> bytearray:
    """The whole body."""
    whole = bytearray()
    async for chunk in body_chunks(request, limit):
        whole += chunk
    return whole
