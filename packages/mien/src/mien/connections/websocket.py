"""WebSocket connections, which the table counts on after the upgrade."""

from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode

from mien.connections.table import ConnectionTable
from mien.connections.transport import MeasuredTransport

MAX_MESSAGE_BYTES = 4096
"""Of a client's message, unpacked and with all its fragments. What clients send is ignored: the server only talks."""
FRAMES_PER_SECOND = 200
"""Of one client. A frame has 6 bytes or more and takes about 20 µs, so that those of one read would take a second."""
MAX_FRAGMENTS = 1024
"""Of one message, which may all be empty."""
_PIECE = 1024
"""Bytes that are parsed before the frames in them are counted."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with limits for what clients send.

    Clients that are gone are found by its pings, those that read nothing by the table.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], table: ConnectionTable
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.conn.max_message_size = MAX_MESSAGE_BYTES
        self._table = table
        self._refused = False
        self._second = 0
        self._frames = 0

    def data_received(self, data: bytes) -> None:
        for begin in range(0, len(data), _PIECE):
            if self._refused or self.conn.parser_exc is not None or self.transport.is_closing():
                return  # whatever else has arrived
            super().data_received(data[begin : begin + _PIECE])

    def handle_events(self) -> None:
        second = int(self.loop.time())
        if second != self._second:
            self._second, self._frames = second, 0
        self._frames += len(self.conn.events)
        if self._frames > FRAMES_PER_SECOND or len(self.frames) > MAX_FRAGMENTS:
            self._refuse("too many frames")
        else:
            super().handle_events()

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self.conn.events.clear()
        self.frames = []
        self.conn.fail(CloseCode.POLICY_VIOLATION, reason)
        self.handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)
        transport = self.transport
        if isinstance(transport, MeasuredTransport):
            self._table.writing.pop(transport, None)
            transport.detach()
        super().connection_lost(exc)

    def abort(self) -> None:
        self.transport.abort()

    def head_expired(self) -> None:
        """Its head has arrived."""

    def idle_expired(self) -> None:
        """It may be idle."""
