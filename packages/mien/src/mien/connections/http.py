"""HTTP/1 on one connection: uvicorn's protocol, with limits and deadlines for everything but bodies.

The parser (llhttp) has no limits of its own, and neither has uvicorn. Counted here is what the parser has passed on so
far and, for what it still keeps to itself, the bytes it was fed. Bodies are limited by their readers.
"""

import asyncio
import secrets
from typing import Any

import httptools
import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mien.connections.table import Admitted, ConnectionTable
from mien.connections.transport import MeasuredTransport
from mien.connections.websocket import WebSocketProtocol
from mien.errors import HeadersTooLarge, HeadersTooSlow, MienError, RequestError, Unavailable, UrlTooLong
from mien.http.errors import error_response

log = structlog.get_logger()
PIPELINED = 32
"""Requests that may wait on one connection for the one before them. Later ones are not read: clients repeat them."""
BODY_OVERHEAD = 1024 * 1024
"""Bytes of chunk sizes and extensions, beyond one for CONTENT_PER_OVERHEAD bytes of content."""
CONTENT_PER_OVERHEAD = 4
"""Chunks of 20 bytes, as of a client that writes line by line. Each chunk costs the event loop a microsecond: 64 MB in
chunks of one byte took 14 s."""
DROPPED_BYTES = 1024 * 1024
"""Read after an error, for the client's sake; then the client has to wait for the end of the connection."""
PROBES = frozenset({"/livez", "/readyz"})


class _Refused(Exception):
    """Raised in callbacks of the parser: nothing further is parsed on this connection."""


class HttpProtocol(HttpToolsProtocol):
    """One connection of an HTTP client."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], table: ConnectionTable
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.carrier: asyncio.Transport | None = None
        """The transport below TLS, if there is TLS."""
        self._table = table
        self._limits = table.limits
        self._reserved = False
        self._lost = False
        self._early: list[bytes] = []
        """Data that arrived in one piece with the end of the TLS handshake."""
        # Parsing
        self._message = 0
        self._in_head = True
        self._begun = False
        """Whether the parser has seen the first byte of a head that is not complete."""
        self._kept = 0
        """Bytes that the parser was fed without an end of the head, except by the read in which it began."""
        self._lines = 0
        self._line_bytes = 0
        self._overhead = 0
        # Ending
        self._ended = False
        """Nothing is parsed any more: what still arrives is dropped."""
        self._dropped = 0
        self._reason: MienError | None = None
        """What stopped the parser."""
        self._deferred: MienError | None = None
        """The answer once all requests before it are answered."""

    # --- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        admitted = self._table.admit(self, self.loop.time())
        measured = MeasuredTransport(transport, self._wrote, self._close, self.carrier)  # type: ignore[arg-type]
        super().connection_made(measured)
        self._measured = measured
        if admitted is Admitted.REFUSED or self._lost:
            self.abort()
            return
        if admitted is Admitted.RESERVED:
            self._reserved = True
            self.app = self._probes_only
        self._table.heads.add(self, self.loop.time())
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)
        if self.transport is None:  # during the TLS handshake
            self._lost = True
            return
        self._table.writing.pop(self._measured, None)
        self._measured.detach()
        self._ended = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
            return
        if self._ended:
            self._drop(len(data))
            return
        was_in_head, message = self._in_head, self._message
        if self._in_head:
            if self in self._table.idle:
                self._table.idle.discard(self)
                self._table.heads.add(self, self.loop.time())
        else:
            self._overhead += len(data)
            if self in self._table.bodies:
                self._table.bodies.add(self, self.loop.time())
        self._feed(data)
        if self._ended:
            return
        if was_in_head and self._in_head and self._message == message:
            self._kept += len(data)
            if self._kept > self._limits.header_bytes + self._limits.url_bytes:
                self._refuse(self._headers_too_large())
        elif not self._in_head and self._overhead > BODY_OVERHEAD:
            self._refuse(RequestError("the chunks of the body have more framing than content"))

    def eof_received(self) -> None:
        """The transport closes itself."""

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserCallbackError:
            if not self._ended:
                self._refuse(self._reason or RequestError("the request's URL cannot be parsed"))
        except httptools.HttpParserError as error:
            self._refuse(RequestError(f"this is no valid HTTP/1.1 request: {error}"))

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > DROPPED_BYTES:
            self.flow.pause_reading()

    def _wrote(self, transport: MeasuredTransport) -> None:
        self._table.writing[transport] = self

    # --- callbacks of the parser

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            self._ended = True
            raise _Refused
        self._message += 1
        self._begun = True
        self._kept = self._lines = self._line_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > self._limits.url_bytes:
            self._reason = UrlTooLong(
                f"the URL has more than {self._limits.url_bytes} bytes, the most that this server reads"
            )
            raise _Refused
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        self._line_bytes += len(name) + len(value) + 4
        if self._lines > self._limits.headers or self._line_bytes > self._limits.header_bytes:
            self._reason = self._headers_too_large()
            raise _Refused
        if self._in_head:  # a field after the body would be taken for one that was there before it was checked
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._is_websocket() and not self._may_upgrade():
            self._reason = RequestError("a WebSocket handshake must be a GET request without a body")
            raise _Refused
        self._in_head = self._begun = False
        self._lines = self._line_bytes = 0
        self._overhead = 0
        self._table.heads.discard(self)
        self._table.idle.discard(self)
        self._table.bodies.add(self, self.loop.time())
        if self._reserved and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body) + len(body) // CONTENT_PER_OVERHEAD
        self._overhead = max(self._overhead, -BODY_OVERHEAD)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._kept = 0
        self._table.bodies.discard(self)
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and not self._ended:
            # Answered before all of the body had arrived.
            self._table.heads.discard(self)
            self._table.idle.add(self, self.loop.time())

    def _headers_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"the headers have more than {self._limits.headers} lines or {self._limits.header_bytes} bytes, the most "
            "that this server reads"
        )

    # --- upgrades

    def _is_websocket(self) -> bool:
        return bool(self.parser.should_upgrade()) and self._should_upgrade()

    def _may_upgrade(self) -> bool:
        """Nobody reads the body of an upgrade, so that it would have no deadline."""
        fields = {name for name, value in self.headers if (name, value) != (b"content-length", b"0")}
        return self.scope["method"] == "GET" and not fields & {b"content-length", b"transfer-encoding"}

    def _upgrade(self) -> None:
        if not self._should_upgrade():
            # The parser takes what follows for the new protocol's: the request is answered, and is the last one.
            self._ended = True
            if self.cycle is not None:
                self.cycle.keep_alive = False
        elif self._is_answering() or self._reserved:
            self._in_head = True
            self._refuse(
                _no_room() if self._reserved else RequestError("an upgrade must be a connection's only request")
            )
        else:
            self.handle_websocket_upgrade()

    def handle_websocket_upgrade(self) -> None:
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        websocket = WebSocketProtocol(self.config, self.server_state, self.app_state, self._table)
        websocket.connection_made(self._measured)
        websocket.data_received(b"".join([*head, b"\r\n"]))
        if not websocket.handshake_initiated:  # it would wait for ever: its parser has limits of its own, and no answer
            self.connections.discard(websocket)
            self._refuse(RequestError(f"this is no valid WebSocket handshake: {websocket.conn.handshake_exc}"))
            return
        self.connections.discard(self)
        self._table.replace(self, websocket)
        self._measured.set_protocol(websocket)

    # --- the end of a response, and of the connection

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self in self._table.lingering:
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deferred is not None:
            self._answer(self._deferred)
        elif self._ended:
            self._linger()
        else:
            # Only now: if reading went on while requests wait, there would be more of them with each response.
            self.flow.resume_reading()
            if self._in_head and not self._begun:
                self._table.idle.add(self, self.loop.time())
            else:  # the rest of a body that nobody reads, or the head of the next request
                self._table.bodies.discard(self)
                self._table.heads.add(self, self.loop.time())

    def head_expired(self) -> None:
        if self._begun:
            self._refuse(HeadersTooSlow(f"the request's headers did not arrive within {self._limits.head_seconds:g} s"))
        else:
            self._measured.close_now()

    def idle_expired(self) -> None:
        self._measured.close_now()

    def abort(self) -> None:
        self._ended = True
        self._measured.abort()

    def shutdown(self) -> None:
        if not self._is_answering():
            self._measured.close_now()
        else:
            self.cycle.keep_alive = False

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: MienError) -> None:
        """Parse nothing further; answer with the error after the responses that are due before it."""
        self._ended = True
        answering = self._is_answering()
        if not self._in_head:  # it is the body of the last request that is wrong
            broken = self.cycle
            if self.pipeline:
                self.pipeline.popleft()
            elif answering:
                broken.disconnected = True
                broken.message_event.set()
                answering = False
            if broken.response_started:
                self._linger()
                return
        if answering:
            self._deferred = error
        else:
            self._answer(error)

    def _answer(self, error: MienError) -> None:
        """Send an error that no handler makes, and close the connection."""
        request_id = secrets.token_hex(8)
        self._table.metrics.errors.labels(error.code).inc()
        client = self.client[0] if self.client else None
        log.info("request refused", code=error.code, status=error.status, client=client, request_id=request_id)
        response = error_response(error, request_id)
        response.headers["Connection"] = "close"
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"x-request-id", request_id.encode())]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[error.status], lines, response.body))
        self._linger()

    def _close(self) -> None:
        """Close the connection after a response."""
        if self._in_head and not self._begun and not self._ended:
            self._measured.close_now()
        else:
            self._linger()

    def _linger(self) -> None:
        """Say that the response is over, and drop what still arrives for a while.

        Closing while there is something to read resets the connection, and the client may never see the response.
        """
        if self._measured.is_closing() or self in self._table.lingering:
            return
        self._ended = True
        self._table.heads.discard(self)
        self._table.idle.discard(self)
        self._table.bodies.discard(self)
        self._table.lingering.add(self, self.loop.time())
        self.flow.resume_reading()
        if self._measured.can_write_eof():
            self._measured.write_eof()

    async def _probes_only(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What answers on reserved connections."""
        if scope["path"] in PROBES:
            await self.config.loaded_app(scope, receive, send)
            return
        error = _no_room()
        self._table.metrics.errors.labels(error.code).inc()
        response = error_response(error, secrets.token_hex(8))
        await response(scope, receive, send)


def _no_room() -> Unavailable:
    return Unavailable("this server has as many connections as it can serve; see MIEN_MAX_CONNECTIONS", retry_after=1)
