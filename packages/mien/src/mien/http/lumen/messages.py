"""Reading the messages of a service's result: within the deadline, ahead of a slow client, or all of them."""

import asyncio
from collections.abc import AsyncIterator

import structlog

from mien.engine.cancellation import CancelScope
from mien.errors import InternalError, MienError, NodeFailed
from mien.inference.contract import InferResult
from mien.nodes.chunks import InvalidResponse, assemble

log = structlog.get_logger()
AHEAD = 4
"""How many messages a service may be ahead of its client."""


class Messages:
    """Reads a service's result. Deadline and cancellation end the wait even if the service ignores them."""

    def __init__(self, source: AsyncIterator[InferResult], scope: CancelScope) -> None:
        self._source = source
        self._scope = scope

    async def next(self) -> InferResult:
        """The next message, encoded.

        Raises what the service raises, DeadlineExceeded, Cancelled, and InternalError for a service that ends without
        a final message.
        """
        async with self._scope.bounding():
            message = await anext(self._source, None)
        if message is None:
            self._scope.check()  # a service may simply return when its scope is over
            raise InternalError("the service ended its response without a final message")
        return await message.encoded()

    async def close(self) -> None:
        """Close the service's generator: nobody reads it any more."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


class PrefetchingReader:
    """Reads messages ahead in an asyncio task of its own, so that a wait for one can be combined with other waits."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._queue: asyncio.Queue[InferResult | MienError] = asyncio.Queue(AHEAD)
        self._closing = False
        self._reading = asyncio.create_task(self._read())

    async def next(self) -> InferResult:
        """The next message. Raises MienError."""
        item = await self._queue.get()
        if isinstance(item, MienError):
            raise item
        return item

    async def close(self) -> None:
        """End the service's work."""
        self._closing = True
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            message = InferResult()
            while not message.is_final:
                message = await self._messages.next()
                await self._queue.put(message)
        except MienError as error:
            await self._queue.put(error.without_frames())
        except Exception as error:
            log.error("the service failed", exc_info=error)
            await self._queue.put(InternalError("the server failed; its log has the details under the request id"))
        except asyncio.CancelledError:
            if not self._closing:  # by whatever the service did: the client still gets its final event
                await self._queue.put(InternalError("the service ended its response without a final message"))
            raise
        finally:
            await self._messages.close()


async def collect(messages: Messages) -> InferResult:
    """The whole result: the final message, or the pieces put together where the service sent it in pieces.

    Raises what the service raises, and NodeFailed for pieces that do not fit together.
    """
    pieces: list[InferResult] = []
    while True:
        message = await messages.next()
        if message.total > 1:
            pieces.append(message)
        if message.is_final:
            break
    if not pieces:
        return message
    try:
        return assemble(pieces)
    except InvalidResponse as error:
        raise NodeFailed(f"the service's response is incomplete: {error}") from None
