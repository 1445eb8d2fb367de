"""The messages of one answer, within its caller's patience."""

import asyncio
from collections.abc import AsyncIterator

from mien.engine.call import Call
from mien.errors import DeadlineExceeded, InternalError
from mien.inference.contract import InferResult


class Messages:
    """Reads a service's answer. Deadline and cancel of the call end the wait even where the service ignores them."""

    def __init__(self, source: AsyncIterator[InferResult], call: Call) -> None:
        self._source = source
        self._call = call

    async def next(self) -> InferResult:
        """The next message. Raises what the service raises, Cancelled, DeadlineExceeded, InternalError at its end."""
        message = await self._within_patience()
        if message is None:
            self._call.check()  # a service may take the end of its call for the end of its work
            raise InternalError("the service ended its answer without a final message")
        return message

    async def _within_patience(self) -> InferResult | None:
        """As `Call.bounding` does it, without that one's generator: this is every request's way."""
        call, loop = self._call, asyncio.get_running_loop()
        call.check()
        limit, waiting = asyncio.timeout(call.remaining()), True

        def give_up() -> None:
            if waiting and not limit.expired():
                limit.reschedule(loop.time())

        def wake() -> None:
            loop.call_soon_threadsafe(give_up)

        try:
            async with limit:
                call.subscribe(wake)
                try:
                    return await anext(self._source, None)
                finally:
                    waiting = False
                    call.unsubscribe(wake)
        except TimeoutError:
            if not limit.expired():
                raise  # the service's own
            call.check()
            # the loop's clock is coarser than the deadline's
            raise DeadlineExceeded(f"the request was not done within its {call.timeout:g} s") from None

    async def close(self) -> None:
        """Tell the service that nobody listens any more."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
