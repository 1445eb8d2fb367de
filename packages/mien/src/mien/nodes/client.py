"""The client of one node on another machine: its capabilities, its health and its answers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2

from mien.engine.cancellation import CancelScope
from mien.errors import MienError, NodeFailed, NodeIncompatible, NodeLost, RequestError, Unavailable
from mien.inference.contract import InferRequest, InferResult
from mien.nodes.chunks import InvalidResponse, ResultJoiner, assemble, split
from mien.nodes.contract import (
    ENVELOPE_BYTES,
    GET_CAPABILITIES,
    HEALTH,
    INFER,
    SERVICE_KEY,
    SOURCE_KEY,
    STREAM_CAPABILITIES,
    STREAM_SUFFIX,
    client_options,
)
from mien.nodes.items import pack
from mien.nodes.mapping import CODE_KEY, CutOff, from_in_band, from_status
from mien.nodes.proto import inference_pb2 as pb
from mien.nodes.response_check import ResponseCheck, check_tensor
from mien.nodes.tls import ClientTls
from mien.nodes.wire import Malformed, reader

GRPC_HEALTH = "/grpc.health.v1.Health/Check"
END_GRACE_SECONDS = 0.25  # for a node to end its stream after its final message
PACE_SECONDS = 0.02
MAX_MESSAGES = 10_000  # of one collected response
EARLY_SECONDS = 0.05
"""gRPC's timers, here and on the node, run on clocks of their own: a call may end so much before our deadline."""
_OUR_DEADLINE = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

Rpc: TypeAlias = "grpc.aio.StreamStreamCall[Any, pb.InferResponse]"


@dataclass(frozen=True, slots=True)
class Chunking:
    """How payloads are sent: in chunks of `max_bytes` if larger than `threshold`; if not `auto`, never split."""

    auto: bool = True
    threshold: int = 1024 * 1024
    max_bytes: int = 256 * 1024


class NodeClient:
    """A connection to one node. Used on one event loop."""

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        tls: ClientTls | None = None,
        chunking: Chunking | None = None,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """`address`: host:port. `key`: an API key that the node asks for. `tls`: plain text if None.
        `max_bytes`: largest result. Raises TlsInvalid.
        """
        self.address = address
        self._credentials = None if tls is None else tls.credentials()
        self._chunking = chunking or Chunking()
        self._max_bytes = max_bytes
        self._max_message = max_bytes + ENVELOPE_BYTES
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self.capabilities: tuple[pb.Capability, ...] = ()
        self._ending: set[asyncio.Task[None]] = set()
        self._ends = True
        self._open(pings=False)

    def _open(self, *, pings: bool) -> None:
        self._pings = pings
        options = client_options(self._max_bytes, pings=pings)
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self.address, options)
        else:
            self._channel = grpc.aio.secure_channel(self.address, self._credentials, options)

    @property
    def is_mien(self) -> bool:
        """Whether the node is a Mien server, too."""
        return any(SOURCE_KEY in capability.extra for capability in self.capabilities)

    async def connect(self, seconds: float) -> tuple[pb.Capability, ...]:
        """The node's capabilities, read now. Raises NodeIncompatible for another protocol version, else as `infer`."""
        try:
            capabilities = await self._read_capabilities(seconds)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None
        self.capabilities = tuple(capabilities)
        if not capabilities:
            raise Unavailable(f"node {self.address} offers no service")
        for capability in capabilities:
            if capability.protocol_version.lstrip("vV").partition(".")[0] != "1":
                raise NodeIncompatible(
                    f"node {self.address}: service {capability.service_name!r} speaks protocol "
                    f"{capability.protocol_version or 'without a version'!r}; this server speaks 1.x"
                )
        if self.is_mien and not self._pings:  # only now is it known to tolerate pings
            old = self._channel
            self._open(pings=True)
            await old.close()
        return self.capabilities

    async def _read_capabilities(self, seconds: float) -> list[pb.Capability]:
        stream = self._channel.unary_stream(STREAM_CAPABILITIES, Empty.SerializeToString, reader(pb.Capability))
        try:
            return [self._well_formed(one) async for one in stream(Empty(), timeout=seconds, metadata=self._metadata)]
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
        try:
            return [await self._unary(GET_CAPABILITIES, pb.Capability, seconds)]
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            raise NodeIncompatible(f"node {self.address} does not report its capabilities") from None

    async def check(self, seconds: float) -> None:
        """Raise MienError unless the node answers and reports that it takes requests."""
        try:
            try:
                answer = await self._unary(
                    GRPC_HEALTH, health_pb2.HealthCheckResponse, seconds, health_pb2.HealthCheckRequest()
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                await self._unary(HEALTH, Empty, seconds)
                return
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unavailable(f"node {self.address} is starting or stopping")

    async def _unary(self, path: str, kind: Any, seconds: float, request: Any = None) -> Any:
        asked = Empty() if request is None else request
        method: Any = self._channel.unary_unary(path, lambda message: message.SerializeToString(), reader(kind))
        return self._well_formed(await method(asked, timeout=seconds, metadata=self._metadata))

    def _well_formed(self, message: Any) -> Any:
        if isinstance(message, Malformed):
            raise NodeFailed(f"node {self.address}: its response is not a valid {message.kind}")
        return message

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, service: str = "", stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        """The node's response, message by message; without `stream`, its whole result only.

        `service`: which of the node's services is meant, where several have the task. Raises the error that the node
        reports, or Unavailable when it is gone. Deadline and cancellation of `scope` reach the node.
        """
        messages = self._messages(request, service, stream)
        for paced in (False, True):
            started = False
            try:
                async with aclosing(self._answered(_sending(messages, paced), request, scope, stream)) as results:
                    async for result in results:
                        started = True
                        yield result
            except CutOff:
                # gRPC loses the status of a call that ends while a message is written to it. With a pause after each
                # message, the same refusal comes with its reason; the node had not read the whole request.
                if started or paced:
                    raise
            else:
                return

    async def _answered(
        self, messages: AsyncIterator[pb.InferRequest], request: InferRequest, scope: CancelScope, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        scope.check()
        rpc: Rpc = self._channel.stream_stream(INFER, pb.InferRequest.SerializeToString, reader(pb.InferResponse))(
            messages, timeout=scope.remaining(), metadata=self._metadata
        )
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(rpc.cancel)

        scope.subscribe(wake)
        complete = False
        try:
            check = ResponseCheck(request.correlation_id, stream=stream)
            async with aclosing(self._read(rpc, scope, check)) as parts:
                if not stream:
                    whole = await self._collected(parts)
                    complete = True
                    yield whole
                    return
                async with aclosing(self._joined(parts)) as results:
                    async for result in results:
                        complete = result.is_final
                        yield result
        except (GeneratorExit, asyncio.CancelledError):
            if not complete:
                scope.cancel()
            raise
        finally:
            scope.unsubscribe(wake)
            if complete:
                self._end_in_background(rpc)
            else:
                rpc.cancel()

    def _messages(self, request: InferRequest, service: str, stream: bool) -> Callable[[], Iterator[pb.InferRequest]]:
        """Makes the messages of the request; they are made while they are sent."""
        if len(request.items) > 1 and not self.is_mien:
            raise RequestError(f"node {self.address} takes one payload per request; {len(request.items)} were sent")
        item = request.items[0] if len(request.items) == 1 else pack(request.items)
        chunking = self._chunking
        threshold = chunking.threshold if chunking.auto else len(item.data)
        meta = {**request.metadata, SERVICE_KEY: service} if service else dict(request.metadata)
        task = self._task(request.task, stream)
        return lambda: (
            pb.InferRequest(
                correlation_id=request.correlation_id,
                task=task,
                payload=chunk.data,
                meta=meta,
                payload_mime=item.mime,
                seq=chunk.seq,
                total=chunk.total,
                offset=chunk.offset,
            )
            for chunk in split(item.data, threshold=threshold, max_chunk=chunking.max_bytes)
        )

    def _task(self, task: str, stream: bool) -> str:
        """The task's name with the suffix that asks for a stream, where the node has it."""
        streamed = f"{task}{STREAM_SUFFIX}"
        known = stream and any(streamed == one.name for capability in self.capabilities for one in capability.tasks)
        return streamed if known else task

    async def _read(self, rpc: Rpc, scope: CancelScope, check: ResponseCheck) -> AsyncGenerator[InferResult, None]:
        """Messages up to the final one. Raises what ended the call before it, and NodeFailed for a damaged response."""
        while (message := await self._next(rpc, scope)) is not None:
            if message.HasField("error"):
                raise from_in_band(message, self.address)
            with self._failing():
                check.add(message)
            if message.is_final:
                await self._require_end(rpc)
            yield InferResult(
                message.result,
                message.result_mime,
                message.result_schema,
                dict(message.meta),
                message.is_final,
                message.seq,
                message.total,
                message.offset,
            )
            if message.is_final:
                return

    async def _next(self, rpc: Rpc, scope: CancelScope) -> pb.InferResponse | None:
        """The next message; None at the end of a call that succeeded."""
        try:
            message: Any = await rpc.read()
        except grpc.aio.AioRpcError as error:
            raise self._ended(error, scope) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task: gRPC raises the same for `rpc.cancel()` and for a channel that is closed.
            scope.check()
            raise NodeLost(f"node {self.address}: the connection was closed") from None
        if isinstance(message, pb.InferResponse):
            return message
        self._well_formed(message)
        status = await rpc.code()
        if status is not grpc.StatusCode.OK:
            raise self._ended_with(status, await rpc.details(), await rpc.trailing_metadata(), scope)
        return None

    async def _require_end(self, rpc: Rpc) -> None:
        """Raise NodeFailed if anything follows the final message.

        Some nodes keep their side open for as long as ours is: one that did so once is not waited for again.
        """
        if not self._ends:
            return
        following = asyncio.ensure_future(rpc.read())
        try:
            done, _ = await asyncio.wait({following}, timeout=END_GRACE_SECONDS)
        finally:
            if not following.done():
                following.cancel()
        self._ends = bool(done)
        if done and following.exception() is None and following.result() is not grpc.aio.EOF:
            raise NodeFailed(f"node {self.address} went on after the final message of its response")

    async def _collected(self, messages: AsyncIterator[InferResult]) -> InferResult:
        collected: list[InferResult] = []
        size = 0
        async for message in messages:
            collected.append(message)
            size += len(message.data)
            if size > self._max_bytes or len(collected) > MAX_MESSAGES:
                raise self._over_limit()
        if not (collected and collected[-1].is_final):
            raise self._unfinished()
        with self._failing():
            whole = assemble(collected)
            check_tensor(whole.data, whole.meta)
        return whole

    async def _joined(self, messages: AsyncIterator[InferResult]) -> AsyncGenerator[InferResult, None]:
        joiner = ResultJoiner(self._max_bytes)
        final = False
        async for message in messages:
            with self._failing():
                result = joiner.add(message)
                if result is not None and result.total <= 1:
                    check_tensor(result.data, result.meta)
            if result is not None:
                final = result.is_final
                yield result
        if not final:
            raise self._unfinished()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except InvalidResponse as error:
            raise NodeFailed(f"node {self.address}: its response is damaged: {error}") from None

    def _over_limit(self) -> NodeFailed:
        return NodeFailed(f"node {self.address}: its response is over the limit of {self._max_bytes} bytes")

    def _unfinished(self) -> NodeFailed:
        return NodeFailed(f"node {self.address} ended its response without a final message")

    def _end_in_background(self, rpc: Rpc) -> None:
        """Let the node end the stream: one that sees a cancel takes the request for aborted. Nobody waits for this."""
        ending = asyncio.get_running_loop().create_task(_end(rpc))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _ended(self, error: grpc.aio.AioRpcError, scope: CancelScope) -> MienError:
        return self._ended_with(error.code(), error.details(), error.trailing_metadata(), scope)

    def _ended_with(
        self,
        status: grpc.StatusCode,
        details: str | None,
        trailing: Iterable[tuple[str, str | bytes]] | None,
        scope: CancelScope,
    ) -> MienError:
        """The error of a call that ended with this status: the scope's own, where that is the reason."""
        if status in _OUR_DEADLINE and (remaining := scope.remaining()) is not None and remaining < EARLY_SECONDS:
            scope.expire()
        try:
            scope.check()
        except MienError as error:
            return error
        return self._error(status, details, trailing)

    def _failure(self, error: grpc.aio.AioRpcError) -> MienError:
        """The error of a call whose only deadline is ours: a node that does not answer in time is unavailable."""
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"node {self.address} did not answer in time")
        return self._error(error.code(), error.details(), error.trailing_metadata())

    def _error(
        self, status: grpc.StatusCode, details: str | None, trailing: Iterable[tuple[str, str | bytes]] | None
    ) -> MienError:
        extra: Mapping[str, str] = {key: value for key, value in trailing or () if isinstance(value, str)}
        if status is grpc.StatusCode.RESOURCE_EXHAUSTED and f"vs. {self._max_message})" in (details or ""):
            return self._over_limit()  # gRPC's own words, on this side
        if status is grpc.StatusCode.CANCELLED and CODE_KEY not in extra:
            status = grpc.StatusCode.UNAVAILABLE  # not cancelled by us: the node or the connection went away
        return from_status(status, details or "", extra, self.address)

    async def close(self) -> None:
        """Close the connection; requests that run on it fail with Unavailable."""
        for ending in self._ending:
            ending.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._channel.close()


async def _sending(
    messages: Callable[[], Iterator[pb.InferRequest]], paced: bool
) -> AsyncGenerator[pb.InferRequest, None]:
    for message in messages():
        yield message
        if paced:
            await asyncio.sleep(PACE_SECONDS)


async def _end(rpc: Rpc) -> None:
    try:
        async with asyncio.timeout(END_GRACE_SECONDS):
            await rpc.code()
    except TimeoutError:
        pass
    finally:
        rpc.cancel()
