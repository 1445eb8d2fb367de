"""Reading request bodies: refused by their announced size, counted as they arrive, never beyond the limit."""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request

from mien.decode.budget import Limits as ValueLimits
from mien.engine.admission import Admission
from mien.engine.offload import Offload
from mien.engine.threads import ThreadPool
from mien.errors import BodyTooLarge, BodyTooSlow, Cancelled, RequestError
from mien.http.content_encoding import require_readable, unpacked
from mien.http.forms import FormLimits, read_form
from mien.settings import Limits

P = ParamSpec("P")
T = TypeVar("T")
ONE_MESSAGE = 64 * 1024  # bytes that the server reads from a socket at once
STEP = 1024 * 1024  # bytes reserved at a time for a body of unknown size
SILENCE_SECONDS = 60.0
DISCONNECTED = "the client disconnected while it sent the body"


class BodyReader:
    """Reads bodies into memory for every API, each within its limit, all of them together within MIEN_QUEUE_BYTES.

    There before anything else has started, so that the APIs that need no models have the same limits.
    """

    def __init__(self, limits: Limits, admission: Admission, threads: ThreadPool) -> None:
        self._limits = limits
        self.admission = admission
        self.offload = Offload(threads, limits.request_timeout)
        self.values = ValueLimits(limits.max_values)
        """For parsers of bodies."""

    def close(self) -> None:
        """End the thread. Blocks."""
        self.offload.close()

    async def read(
        self, request: Request, admitted: ExitStack, *, limit: int | None = None, refuse_small: bool = True
    ) -> bytes:
        """The whole body, at most `limit` bytes (default: MIEN_MAX_BODY_BYTES), which count until `admitted` closes.

        A gzip body is unpacked; the limit and the count are those of its content.

        Not `refuse_small`: a body that fits into one message counts, but is never refused. Refusing what is in memory
        already saves nothing, and images of others should not keep tasks from being submitted.
        Raises RequestError, BodyTooLarge, BodyTooSlow, Overloaded, Unavailable, Cancelled.
        """
        limit, seconds = limit or self._limits.max_body_bytes, self._limits.request_timeout
        size = announced_size(request, limit)
        packed = require_readable(request)
        try:
            async with asyncio.timeout(seconds):
                if size is not None and size <= ONE_MESSAGE and not packed:
                    admitted.enter_context(self.admission.body(size, refuse=refuse_small))
                    return await _small_body(request)
                body = io.BytesIO()  # its value is not copied
                async for chunk in _admitted_chunks(request, limit, self.admission, admitted):
                    body.write(chunk)
                return body.getvalue()
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {seconds:g} s") from None

    @asynccontextmanager
    async def form(self, request: Request, admitted: ExitStack, *, field_bytes: int) -> AsyncIterator[FormData]:
        """A multipart form that is kept in memory as a whole; it counts until `admitted` closes.

        Raises as `read` does.
        """
        limits = self._limits
        chunks = _admitted_chunks(request, limits.max_body_bytes, self.admission, admitted)
        # The body is bounded and admitted already, so that nothing need go through the disk.
        form_limits = FormLimits(limits.max_images, field_bytes, limits.max_body_bytes, limits.request_timeout)
        async with read_form(request, chunks, form_limits) as form:
            yield form

    async def parse(
        self, parser: Callable[Concatenate[bytes, P], T], body: bytes, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`parser(body, ...)`, in a thread if the body is large. Raises what the parser raises, DeadlineExceeded."""
        return await self.offload.run(len(body), parser, body, *args, **kwargs)


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


async def _admitted_chunks(
    request: Request, limit: int, admission: Admission, admitted: ExitStack
) -> AsyncGenerator[bytes, None]:
    """The body's chunks for a reader that keeps them in memory: each is admitted before it is read.

    Raises BodyTooLarge, Overloaded, Unavailable, Cancelled.
    """
    held = announced_size(request, limit) or 0
    admitted.enter_context(admission.body(held))
    total = 0
    async for chunk in _chunks(request, limit):
        total += len(chunk)
        while total > held:
            admitted.enter_context(admission.body(STEP))
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
    packed = require_readable(request)
    chunks = _sent_chunks(request, limit)
    if not packed:
        async for chunk in chunks:
            yield chunk
        return
    total = 0
    async for chunk in unpacked(chunks):
        total += len(chunk)
        if total > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes once unpacked, the most that this server reads")
        yield chunk


async def _sent_chunks(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
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


async def _small_body(request: Request) -> bytes:
    """A body that usually arrives in one message: its announced size holds, since the HTTP parser enforces it."""
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Cancelled(DISCONNECTED)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
