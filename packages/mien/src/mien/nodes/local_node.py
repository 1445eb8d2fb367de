"""This server as a node for others: its gRPC port, and mDNS to find nodes and to be found."""

from types import TracebackType
from typing import Self

import structlog

from mien.engine.admission import Admission
from mien.inference.registry import ServiceRegistry
from mien.keys import AccessRule
from mien.metrics import Metrics
from mien.nodes.capability import RUNTIME, names
from mien.nodes.discovery import Announcement, Discovery
from mien.nodes.pool import NodePool
from mien.nodes.server import NodeServer
from mien.nodes.tls import ServerTls
from mien.quotas import Quotas
from mien.settings import Settings

log = structlog.get_logger()


class LocalNode:
    """Listens before the models are loaded, refuses until `ready`, and ends running requests before it stops."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        registry: ServiceRegistry,
        pool: NodePool,
        access: AccessRule,
        quotas: Quotas,
        admission: Admission,
    ) -> None:
        """`registry`: a node offers the services of this machine, not those that others have. `pool`: gets the nodes
        that are found. `admission`: counts the bytes of gRPC requests together with those of HTTP."""
        self._nodes = settings.nodes
        self._host = settings.node_host
        self._drain_seconds = settings.listening.drain_seconds
        self._registry = registry
        self._pool = pool
        self._discovery: Discovery | None = None
        self._port: int | None = None
        self._server = NodeServer(
            registry.local,
            access=access,
            tls=ServerTls.from_settings(settings.nodes),
            quotas=quotas,
            max_requests=settings.nodes.grpc_requests,
            max_waiting=settings.limits.queue_images,
            max_bytes=settings.limits.max_body_bytes,
            admission=admission,
            timeout=settings.limits.request_timeout,
            count=lambda outcome: metrics.grpc_requests.labels(outcome).inc(),
        )

    async def __aenter__(self) -> Self:
        """Listen and look for nodes, where the settings say so. Raises CannotListen, TlsInvalid."""
        if self._nodes.grpc_port is not None:
            self._port = await self._server.start(self._host, self._nodes.grpc_port)
        if self._nodes.mdns_browse or (self._nodes.mdns_announce and self._port is not None):
            await self._discover()
        return self

    async def _discover(self) -> None:
        discovery = Discovery(interfaces=self._nodes.mdns_interfaces, scan=self._nodes.mdns_scan_seconds)
        try:
            self._discovery = await discovery.__aenter__()
        except OSError as error:  # a machine without multicast still serves
            log.error("no mDNS", reason=str(error))
            return
        if self._nodes.mdns_browse:
            self._discovery.browse(self._pool)

    async def ready(self) -> None:
        """The models are loaded: take requests, and announce this node."""
        if self._port is None:
            return
        await self._server.set_ready()
        await self.announce()

    async def announce(self) -> None:
        """Tell others on the network what this node offers now, where the settings say so."""
        if self._port is not None and self._discovery is not None and self._nodes.mdns_announce:
            tasks = [name for service in self._registry.local() for task in service.tasks() for name in names(task)]
            await self._discovery.announce(
                Announcement(self._port, tasks, RUNTIME, self._host, is_secure=self._server.is_secure)
            )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The record goes first, so that nobody finds a node that no longer takes requests.
        if self._discovery is not None:
            await self._discovery.withdraw()
        await self._server.stop(self._drain_seconds)
        if self._discovery is not None:
            await self._discovery.__aexit__(None, None, None)
