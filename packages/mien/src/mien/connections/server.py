"""uvicorn's server with this package's connections."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence

import uvicorn

from mien.connections.http import HttpProtocol
from mien.connections.limits import ConnectionLimits
from mien.connections.table import ConnectionTable
from mien.connections.tls import TlsHandshake
from mien.metrics import Metrics

SWEEP_SECONDS = 0.5


class HttpServer(uvicorn.Server):
    """Listens on sockets that are bound already."""

    def __init__(
        self, config: uvicorn.Config, limits: ConnectionLimits, metrics: Metrics, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(config)
        self._tls = tls
        self._table = ConnectionTable(limits, metrics)
        self._sweeper: asyncio.Task[None] | None = None

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        self._sweeper = loop.create_task(self._sweep())
        self.servers = [
            await loop.create_server(self._accept, sock=listener, backlog=self.config.backlog)
            for listener in sockets or ()
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper

    def _accept(self) -> asyncio.Protocol:
        http = HttpProtocol(self.config, self.server_state, self.lifespan.state, self._table)
        return http if self._tls is None else TlsHandshake(http, self._tls, self._table)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._table.sweep(loop.time())
