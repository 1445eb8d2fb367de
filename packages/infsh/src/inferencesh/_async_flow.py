"""Performs the steps of the flows on the event loop."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from inferencesh import _flows
from inferencesh._async_io import Connections, StreamConnection, gather, in_thread, sleep
from inferencesh._base import Configured, Flow
from inferencesh._messages import Call
from inferencesh._steps import Connect, Disconnect, Emit, Gather, Receive, RunBlocking, Send, Step, Steps, Wait
from inferencesh.errors import InferenceError

T = TypeVar("T")
E = TypeVar("E")


class FlowRunner(Generic[T]):
    """Runs one flow, and owns its stream's connection."""

    def __init__(self, connections: Connections, steps: Steps[T]) -> None:
        self._connections = connections
        self.flow = Flow(steps)
        self._stream: StreamConnection | None = None

    async def advance(self) -> Any:
        """What the flow emits next; None at its end."""
        answer: Any = None
        while (step := self.flow.proceed(answer)) is not None:
            if isinstance(step, Emit):
                return step.update
            try:
                answer = await self._do(step)
            except InferenceError as error:
                answer = error
        return None

    async def run(self, progress: Callable[[Any], None] | None = None) -> T:
        """The flow's result; `progress` is called with what it emits."""
        try:
            while (update := await self.advance()) is not None:
                if progress is not None:
                    progress(update)
        finally:
            await self.close()
        return self.flow.ended()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._connections.send(step)
        if isinstance(step, Connect):
            self._stream = await self._connections.stream(step)
            return self._stream.head
        if isinstance(step, Receive) and self._stream is not None:
            return await self._stream.receive(step.seconds)
        if isinstance(step, Wait):
            await sleep(step.seconds)
        if isinstance(step, RunBlocking):
            return await in_thread(step.work)
        if isinstance(step, Gather):
            return await gather(self._run_beside, step.flows, step.at_once)
        if isinstance(step, Disconnect):
            await self._disconnect()
        return None

    async def _run_beside(self, steps: Steps[Any]) -> Any:
        return await FlowRunner(self._connections, steps).run()

    async def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def close(self) -> None:
        """Stop, and close the connection."""
        self.flow.close()
        await self._disconnect()


class AsyncStream(Generic[E]):
    """What a flow emits. Iterate over it, ideally inside `async with`, which closes the connection."""

    def __init__(self, runner: FlowRunner[Any], progress: Callable[[E], None] | None = None) -> None:
        """`progress` is called with all that is emitted, before it is returned."""
        self._progress = progress
        self._runner = runner
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if self._closed:
            raise StopAsyncIteration
        try:
            emitted: E | None = await self._runner.advance()
        except BaseException:
            await self.close()
            raise
        if emitted is None:
            await self.close()
            raise StopAsyncIteration
        if self._progress is not None:
            self._progress(emitted)
        return emitted

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        await self._runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class AsyncConnected(Configured):
    """A client with its connections."""

    def _disconnected(self) -> None:
        self._connections = Connections(self.base_url)

    async def close(self) -> None:
        """Close all connections. May be called more than once; the next call reconnects."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[T], progress: Callable[[Any], None] | None = None) -> T:
        return await FlowRunner(self._connections, steps).run(progress)

    async def _call(self, call: Call[T]) -> T:
        return await self._run(_flows.simple(self._settings, call))
