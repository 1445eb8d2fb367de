"""The services of other nodes in this server's registry, kept up to what the nodes offer."""

from collections.abc import AsyncGenerator, Sequence

from mien.engine.cancellation import CancelScope
from mien.errors import NotFound
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.inference.registry import ServiceRegistry
from mien.nodes.pool import NodePool


class RemoteService:
    """A service that one or more nodes have; for its callers, a service as any other of this server."""

    def __init__(self, pool: NodePool, name: str) -> None:
        self._pool = pool
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def tasks(self) -> Sequence[TaskInfo]:
        return self._pool.tasks(self._name)

    def infer(self, request: InferRequest, scope: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        return self._pool.infer(self._name, request, scope, stream=stream)


class RemoteServices:
    """Brings the registry up to date whenever the pool of nodes changes.

    At once, not a moment later: a request that comes right after a node failed must find the local service.
    """

    def __init__(self, registry: ServiceRegistry) -> None:
        self._registry = registry
        self._joined: set[str] = set()

    def update(self, pool: NodePool) -> None:
        """Join what the nodes offer now, and remove what none of them does any more."""
        offered = {name: RemoteService(pool, name) for name in pool.service_names()}
        for name in self._joined - set(offered):
            self._registry.remove(name, remote=True)
        for service in offered.values():
            self._registry.add(service, remote=True)
            if self._registry.prefer_remote and not pool.is_ready(service.name):
                self._step_back(service)
        self._joined = set(offered)

    def _step_back(self, service: RemoteService) -> None:
        """While no node is ready for a preferred service, a local one of that name answers."""
        self._registry.remove(service.name, remote=True)
        try:
            self._registry.resolve(service.name)
        except NotFound:
            self._registry.add(service, remote=True)
