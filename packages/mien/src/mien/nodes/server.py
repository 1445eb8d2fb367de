"""This server as a node: the Lumen contract and gRPC's own health service over a list of services."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2

from mien.engine.admission import Admission
from mien.errors import CannotListen, MienError, RequestError, Unavailable
from mien.inference.contract import Service
from mien.keys import AccessRule, Caller, KeyStore
from mien.nodes.capability import capability_of, combined, to_message
from mien.nodes.contract import RESULT_CHUNK_BYTES, SERVICE, SMALL_BYTES, server_options
from mien.nodes.infer_stream import Context, Counter, InferStream, Limits, discard, failure_of
from mien.nodes.mapping import metadata_of, status_of
from mien.nodes.proto.inference_pb2 import Capability, InferRequest, InferResponse
from mien.nodes.tls import ServerTls
from mien.nodes.wire import Malformed, reader, well_formed
from mien.quotas import Quotas

log = structlog.get_logger()
T = TypeVar("T")
M = TypeVar("M", bound=Message)
AnyContext = grpc.aio.ServicerContext[Any, Any]

IDLE_SECONDS = 60.0
MAX_HELD_BYTES = 512 * 1024 * 1024


def node_access(keys: KeyStore, *, open_without_keys: bool) -> AccessRule:
    """The rule for callers of a node, who need a key with the scope `infer`."""
    return AccessRule(keys, open_without_keys, "this node", "send it as metadata `authorization: Bearer KEY`")


async def _nothing_to_discard() -> None:
    pass


class NodeServer:
    """Serves what `services()` returns, once it is ready. Refuses with UNAVAILABLE before, and while it drains."""

    def __init__(
        self,
        services: Callable[[], Sequence[Service]],
        *,
        access: AccessRule | None = None,
        tls: ServerTls | None = None,
        quotas: Quotas | None = None,
        max_requests: int = 64,
        max_waiting: int = 512,
        max_bytes: int = 64 * 1024 * 1024,
        admission: Admission | None = None,
        timeout: float = 120.0,
        idle: float = IDLE_SECONDS,
        count: Counter = lambda outcome: None,
    ) -> None:
        """`access`: who may call; anybody if None. `quotas`: of owners; none if None. `tls`: plain text if None.
        `admission`: counts the bytes of payloads; one of its own if None. `max_requests`: running at once; up to
        `max_waiting` more wait for their turn. `timeout`: seconds for requests without a deadline. `idle`: seconds
        until a stream without messages ends.
        """
        self._services = services
        self._access = access
        self._tls = tls
        self._quotas = quotas
        self._max_bytes = max_bytes
        self._count = count
        admission = admission or Admission(max_images=max_waiting, max_bytes=MAX_HELD_BYTES)
        self.limits = Limits(max_requests, max_waiting, max_bytes, admission, RESULT_CHUNK_BYTES, timeout, idle)
        self._ready = False
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    @property
    def is_secure(self) -> bool:
        """Whether clients have to use TLS."""
        return self._tls is not None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is chosen if `port` is 0. Raises CannotListen, TlsInvalid."""
        credentials = None if self._tls is None else self._tls.credentials()
        self._server = grpc.aio.server(options=server_options(self._max_bytes))
        await self._tell_health(ready=False)
        self._server.add_generic_rpc_handlers((self._handlers(), self._health_handlers()))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise CannotListen(
                f"cannot listen for gRPC on {address}: it is in use or not ours; choose another with --grpc-port"
            ) from error
        await self._server.start()
        log.info("listening", grpc=f"{host}:{bound}", tls=credentials is not None)
        return bound

    async def set_ready(self, ready: bool = True) -> None:
        """Start or stop taking requests; gRPC's health service reports which."""
        self._ready = ready
        await self._tell_health(ready)

    async def stop(self, grace: float) -> None:
        """Refuse new requests, give running ones `grace` seconds to finish, then cancel them."""
        if self._server is None:
            return
        await self.set_ready(ready=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.limits.quiet.wait()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(0.2 if grace else None)
        self._server = None

    async def _tell_health(self, ready: bool) -> None:
        kinds = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self._health.set(name, kinds.SERVING if ready else kinds.NOT_SERVING)

    def _handlers(self) -> grpc.GenericRpcHandler:
        empty, send = reader(Empty, SMALL_BYTES), Capability.SerializeToString
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Infer": grpc.stream_stream_rpc_method_handler(
                    self._infer, reader(InferRequest), InferResponse.SerializeToString
                ),
                "GetCapabilities": grpc.unary_unary_rpc_method_handler(self._get_capabilities, empty, send),
                "StreamCapabilities": grpc.unary_stream_rpc_method_handler(self._stream_capabilities, empty, send),
                "Health": grpc.unary_unary_rpc_method_handler(self._ping, empty, Empty.SerializeToString),
            },
        )

    def _health_handlers(self) -> grpc.GenericRpcHandler:
        request, send = (
            reader(health_pb2.HealthCheckRequest, SMALL_BYTES),
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check_health, request, send),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch_health, request, send),
            },
        )

    async def _check_health(self, message: Any, context: AnyContext) -> health_pb2.HealthCheckResponse:
        request = await _well_formed(message, context)
        return await self._health.Check(request, context)

    async def _watch_health(self, message: Any, context: AnyContext) -> None:
        request = await _well_formed(message, context)
        await self._health.Watch(request, context)

    async def _infer(self, messages: AsyncIterator[InferRequest | Malformed], context: Context) -> None:
        async def answer(caller: Caller) -> None:
            await InferStream(self._services, self.limits, context, self._count, caller.owner, self._quotas).run(
                messages
            )

        async def refuse() -> None:
            await discard(messages)

        await self._guarded(context, answer, refuse)

    async def _get_capabilities(self, request: Empty | Malformed, context: AnyContext) -> Capability:
        async def answer(_: Caller) -> Capability:
            well_formed(request)
            return combined(self._capabilities())

        return await self._guarded(context, answer)

    async def _stream_capabilities(self, request: Empty | Malformed, context: AnyContext) -> None:
        async def answer(_: Caller) -> None:
            well_formed(request)
            for one in self._capabilities():
                await context.write(one)

        await self._guarded(context, answer)

    async def _ping(self, request: Empty | Malformed, context: AnyContext) -> Empty:
        await _well_formed(request, context)
        return Empty()  # not the request, whose unknown fields would be sent back

    def _capabilities(self) -> list[Capability]:
        services = self._services()
        if not services:
            raise Unavailable("this node has no services yet", retry_after=2.0)
        return [to_message(capability_of(service, self.limits.max_requests), self._max_bytes) for service in services]

    def _require(self, context: AnyContext) -> Caller:
        caller = Caller(None) if self._access is None else self._access.require(_bearer(context), "infer")
        if not self._ready:
            raise Unavailable("this node is not ready: it is starting or stopping", retry_after=2.0)
        return caller

    async def _guarded(
        self,
        context: AnyContext,
        answer: Callable[[Caller], Awaitable[T]],
        refuse: Callable[[], Awaitable[None]] = _nothing_to_discard,
    ) -> T:
        """Check the key and that the node is ready, then run the call; what it raises becomes the status.

        `refuse` runs before a refused call ends.
        """
        try:
            try:
                caller = self._require(context)
            except MienError:
                await refuse()
                raise
            return await answer(caller)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a status
            failure = failure_of(error, "gRPC call failed")
        await abort(context, failure)
        raise failure  # unreachable: abort raises


async def abort(context: AnyContext, failure: MienError) -> None:
    """End the call with the failure's status. Always raises."""
    try:
        await context.abort(status_of(failure), failure.message, metadata_of(failure))
    except grpc.aio.InternalError:
        # The call is over already, by its deadline or its client. gRPC would log this as a fault.
        raise asyncio.CancelledError from None


async def _well_formed(message: M | Malformed, context: AnyContext) -> M:
    """The message; a malformed one ends the call with INVALID_ARGUMENT."""
    try:
        return well_formed(message)
    except RequestError as error:
        await abort(context, error)
        raise


def _bearer(context: AnyContext) -> str:
    for name, value in context.invocation_metadata() or ():
        kind, _, secret = (value if isinstance(value, str) else value.decode("latin-1")).partition(" ")
        if name == "authorization" and kind.lower() == "bearer":
            return secret.strip()
    return ""
