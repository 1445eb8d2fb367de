"""The services of other nodes in this server's registry, kept up to what the nodes offer."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import structlog

from mien.engine.cancellation import CancelScope
from mien.errors import NotFound, Overloaded, Unavailable
from mien.inference.contract import InferRequest, InferResult, Service, TaskInfo
from mien.inference.registry import ServiceRegistry, task_of
from mien.nodes.pool import NodePool

log = structlog.get_logger()


class RemoteService:
    """A service that one or more nodes have; for its callers, a service as any other of this server.

    Where this server has the service, too, that one steps in when no node takes a request, or when so many wait for
    one that it would be as many again as the nodes run at once.
    """

    def __init__(self, pool: NodePool, name: str, registry: ServiceRegistry) -> None:
        """`registry`: whose local service of that name steps in."""
        self._pool = pool
        self._name = name
        self._registry = registry

    @property
    def name(self) -> str:
        return self._name

    def tasks(self) -> Sequence[TaskInfo]:
        return self._pool.tasks(self._name)

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        """The response of a node, or of the local service if none of it has been sent yet."""
        local = self._substitute(request.task)
        started = False
        try:
            remote = self._pool.infer(self._name, request, scope, stream=stream, has_substitute=local is not None)
            async with aclosing(remote) as results:
                async for result in results:
                    started = True
                    yield result
        except (Unavailable, Overloaded) as error:
            if local is None or started or scope.over():
                raise
            reason = error.message
        else:
            return
        log.info("no node takes the request; it is answered here", service=self._name, reason=reason)
        try:
            async with aclosing(local.infer(request, scope, stream=stream)) as results:
                async for result in results:
                    started = True
                    yield result
        except Overloaded:
            if started:
                raise
        else:
            return
        async with aclosing(self._pool.infer(self._name, request, scope, stream=stream)) as results:
            async for result in results:
                yield result

    def _substitute(self, task: str) -> Service | None:
        """This server's own service, if it has the task."""
        for service in self._registry.local():
            if service.name == self._name:
                try:
                    task_of(service, task)
                except NotFound:
                    return None
                return service
        return None


class RemoteServices:
    """Brings the registry up to date whenever the pool of nodes changes.

    At once, not a moment later: a request that comes right after a node failed must find the local service.
    """

    def __init__(self, registry: ServiceRegistry) -> None:
        self._registry = registry
        self._joined: set[str] = set()

    def update(self, pool: NodePool) -> None:
        """Join what the nodes offer now, and remove what none of them does any more."""
        offered = {name: RemoteService(pool, name, self._registry) for name in pool.service_names()}
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
