"""The asyncio client of `/v1/infer`."""

from collections.abc import Sequence
from typing import Any, Unpack

from inferencesh._async_flow import AsyncConnected, AsyncStream, FlowRunner
from lumen_client import _flows
from lumen_client._base import BaseLumenClient, InferOptions
from lumen_client._payload import Payload
from lumen_client._result import Result


class AsyncResults(AsyncStream[Result]):
    """The results of a stream as they arrive. Iterate over it, ideally inside `async with`.

    The last one is the whole result, with `is_final`. Closing it earlier cancels the work on the server. Raises
    StreamFailed if the work fails midway, InferenceConnectionError if the connection breaks.
    """


class AsyncLumenClient(AsyncConnected, BaseLumenClient):
    """Client of a Lumen server, for asyncio: one client serves any number of asyncio tasks of one event loop.

    Use `async with`, or `await close()` at the end; connections are reused. In another loop it reconnects.
    """

    async def infer(
        self, service: str, payload: Payload | Sequence[Payload], **options: Unpack[InferOptions]
    ) -> Result:
        """Run a service on a payload: bytes, a text, a `Path` or an open file; a list of them is one batch.

        `options`: `task`, `mime`, `meta`, `correlation_id` and `deadline`, as `InferOptions` has them. Raises APIError
        with the server's `code` (`deadline_exceeded`, `overloaded`, …) and `retry_after`, InferenceConnectionError,
        InferenceTimeout, UploadError for a file that cannot be read, ValueError and TypeError for wrong arguments.
        """
        asked = _flows.question(service, payload, stream=False, **options)
        return await self._run(_flows.infer(self._settings, asked))

    def stream(
        self, service: str, payload: Payload | Sequence[Payload], **options: Unpack[InferOptions]
    ) -> AsyncResults:
        """Like `infer`, but with each result as soon as it is there: the faces of an image, the items of a batch.

        Nothing is sent before the first is asked for.
        """
        asked = _flows.question(service, payload, stream=True, **options)
        return AsyncResults(FlowRunner(self._connections, _flows.stream(self._settings, asked)))

    async def capabilities(self, node: str = "local") -> list[dict[str, Any]]:
        """The services of a node, with their tasks, models and media types. `local` is the server itself."""
        return await self._run(_flows.capabilities(self._settings, node))

    async def nodes(self) -> list[dict[str, Any]]:
        """The server and the nodes behind it, with their state, tasks and capabilities."""
        return await self._run(_flows.listing(self._settings, "/v1/nodes", "nodes"))

    async def metrics(self) -> dict[str, Any]:
        """Counts of the server's requests; latencies in nanoseconds."""
        return await self._run(_flows.metrics(self._settings))

    async def health(self) -> dict[str, Any]:
        """The server's `status`: `healthy`, or `starting` while it loads its models. Needs no key."""
        return await self._run(_flows.health(self._settings))
