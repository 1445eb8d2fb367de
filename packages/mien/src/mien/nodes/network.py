"""A server's place among nodes: the nodes behind it, being a node itself, finding and being found."""

import structlog

from mien.errors import NotFound, Unavailable
from mien.inference.contract import Service
from mien.inference.registry import ServiceRegistry
from mien.metrics import Metrics
from mien.nodes.authorise import Authorise
from mien.nodes.catalog import names
from mien.nodes.discovery import Announcement, Discovery
from mien.nodes.pool import Count, NodePool, RemoteService, is_remote
from mien.nodes.server import RUNTIME, NodeServer
from mien.settings import Settings

log = structlog.get_logger()


class Network:
    """Starts before the models are loaded, is told when they are, stops before they go."""

    def __init__(self, settings: Settings, metrics: Metrics, authorise: Authorise) -> None:
        self._settings = settings
        self._registry: ServiceRegistry | None = None
        self._joined: set[str] = set()
        self._discovery: Discovery | None = None
        self._port: int | None = None
        self.pool = NodePool.from_settings(settings.nodes, _counting(metrics))
        self.pool.on_change = self._join
        self._server = NodeServer(
            self._local,
            authorise=authorise,
            max_requests=settings.nodes.grpc_requests,
            max_bytes=settings.limits.max_body_bytes,
            max_held=settings.limits.queue_bytes,
            timeout=settings.limits.request_timeout,
            count=lambda outcome: metrics.grpc_requests.labels(outcome).inc(),
        )

    async def start(self) -> None:
        """Listen where the settings say so, and get to know nodes. Raises CannotListen."""
        settings = self._settings
        if settings.nodes.grpc_port is not None:
            self._port = await self._server.start(self._settings.node_host, settings.nodes.grpc_port)
        for address in settings.nodes.nodes:
            self.pool.add(address)
        if settings.nodes.mdns_browse or (settings.nodes.mdns_announce and self._port is not None):
            await self._discover()

    async def _discover(self) -> None:
        settings = self._settings
        try:
            self._discovery = await Discovery(
                interfaces=settings.nodes.mdns_interfaces, scan=settings.nodes.mdns_scan_seconds
            ).__aenter__()
        except OSError as error:  # a machine without multicast still serves
            log.error("no mDNS", reason=str(error))
            return
        if settings.nodes.mdns_browse:
            self._discovery.browse(self.pool)

    async def ready(self, registry: ServiceRegistry) -> None:
        """The models are loaded: take requests for them, and offer the nodes' services beside them."""
        self._registry = registry
        registry.prefer_remote = self._settings.nodes.prefer_remote
        self._join()
        if self._port is None:
            return
        await self._server.set_ready()
        if self._discovery is not None and self._settings.nodes.mdns_announce:
            tasks = [name for service in self._local() for task in service.tasks() for name in names(task)]
            await self._discovery.announce(Announcement(self._port, tasks, RUNTIME, self._settings.node_host))

    async def stop(self, grace: float) -> None:
        """Say goodbye, finish what runs within `grace` seconds, let go of all nodes."""
        if self._discovery is not None:
            await self._discovery.withdraw()
        await self._server.stop(grace)
        if self._discovery is not None:
            await self._discovery.__aexit__(None, None, None)
        await self.pool.close()

    def _local(self) -> list[Service]:
        """What this machine has itself: a node does not offer what others have."""
        if self._registry is None:
            raise Unavailable("the models are being loaded", retry_after=2.0)
        return [service for service in self._registry.local() if not is_remote(service)]

    def _join(self) -> None:
        """Bring the registry up to what the nodes offer now."""
        registry = self._registry
        if registry is None:
            return
        offered = {service.name: service for service in self.pool.services()}
        for name in self._joined - set(offered):
            registry.remove(name, remote=True)
        for service in offered.values():
            registry.add(service, remote=True)
            if registry.prefer_remote and not self.pool.is_ready(service.name):
                self._step_back(registry, service)
        self._joined = set(offered)

    @staticmethod
    def _step_back(registry: ServiceRegistry, service: RemoteService) -> None:
        """While no node is ready for a preferred service, a local one of that name answers."""
        registry.remove(service.name, remote=True)
        try:
            registry.resolve(service.name)
        except NotFound:
            registry.add(service, remote=True)


def _counting(metrics: Metrics) -> Count:
    def count(node: str, outcome: str, seconds: float) -> None:
        metrics.node_requests.labels(node, outcome).inc()
        if outcome == "ok":
            metrics.node_seconds.labels(node).observe(seconds)

    return count
