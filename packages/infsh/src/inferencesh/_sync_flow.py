# Generated from _async_flow.py by tools/generate_sync.py (`make sync`): edit that file.
"""Performs the steps of the flows in the calling thread."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from inferencesh import _flows
from inferencesh._base import Configured, Flow
from inferencesh._messages import Call
from inferencesh._steps import Connect, Disconnect, Emit, Gather, Receive, RunBlocking, Send, Step, Steps, Wait
from inferencesh._sync_io import Connections, StreamConnection, gather, in_thread, sleep
from inferencesh.errors import InferenceError

T = TypeVar("T")
E = TypeVar("E")


class FlowRunner(Generic[T]):
    """Runs one flow, and owns its stream's connection."""

    def __init__(self, connections: Connections, steps: Steps[T]) -> None:
        self._connections = connections
        self.flow = Flow(steps)
        self._stream: StreamConnection | None = None

    def advance(self) -> Any:
        """What the flow emits next; None at its end."""
        answer: Any = None
        while (step := self.flow.proceed(answer)) is not None:
            if isinstance(step, Emit):
                return step.update
            try:
                answer = self._do(step)
            except InferenceError as error:
                answer = error
        return None

    def run(self, progress: Callable[[Any], None] | None = None) -> T:
        """The flow's result; `progress` is called with what it emits."""
        try:
            while (update := self.advance()) is not None:
                if progress is not None:
                    progress(update)
        finally:
            self.close()
        return self.flow.ended()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return self._connections.send(step)
        if isinstance(step, Connect):
            self._stream = self._connections.stream(step)
            return self._stream.head
        if isinstance(step, Receive) and self._stream is not None:
            return self._stream.receive(step.seconds)
        if isinstance(step, Wait):
            sleep(step.seconds)
        if isinstance(step, RunBlocking):
            return in_thread(step.work)
        if isinstance(step, Gather):
            return gather(self._run_beside, step.flows, step.at_once)
        if isinstance(step, Disconnect):
            self._disconnect()
        return None

    def _run_beside(self, steps: Steps[Any]) -> Any:
        return FlowRunner(self._connections, steps).run()

    def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Stop, and close the connection."""
        self.flow.close()
        self._disconnect()


class Stream(Generic[E]):
    """What a flow emits. Iterate over it, ideally inside `with`, which closes the connection."""

    def __init__(self, runner: FlowRunner[Any], progress: Callable[[E], None] | None = None) -> None:
        """`progress` is called with all that is emitted, before it is returned."""
        self._progress = progress
        self._runner = runner
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        if self._closed:
            raise StopIteration
        try:
            emitted: E | None = self._runner.advance()
        except BaseException:
            self.close()
            raise
        if emitted is None:
            self.close()
            raise StopIteration
        if self._progress is not None:
            self._progress(emitted)
        return emitted

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Connected(Configured):
    """A client with its connections."""

    def _disconnected(self) -> None:
        self._connections = Connections(self.base_url)

    def close(self) -> None:
        """Close all connections. May be called more than once; the next call reconnects."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[T], progress: Callable[[Any], None] | None = None) -> T:
        return FlowRunner(self._connections, steps).run(progress)

    def _call(self, call: Call[T]) -> T:
        return self._run(_flows.simple(self._settings, call))
