"""WebSocket connections, which the table counts on after the upgrade."""

from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from mien.connections.table import ConnectionTable
from mien.connections.transport import MeasuredTransport


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol. Clients that are gone are found by its pings, those that read nothing by the table."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], table: ConnectionTable
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._table = table

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
