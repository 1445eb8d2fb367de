"""The nodes behind this server: which ones are known, and what they offer together."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from mien.engine.cancellation import CancelScope
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.nodes.client import Chunking, NodeClient
from mien.nodes.member import Connection, Member, MonitorOptions
from mien.nodes.node import Cooldown, Node, State, service_name
from mien.nodes.routing import Count, Router
from mien.nodes.tls import ClientTls
from mien.settings import Nodes

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Durations in seconds."""

    limit: int = 20
    """Of nodes, beside those that are configured."""
    connect: float = 5.0
    health: float = 30.0
    """Between health checks; 0: none."""
    cooldown_min: float = 10.0
    cooldown_max: float = 120.0
    forget: float = 300.0
    """After which a found node that cannot be reached is forgotten."""
    waiting: int = 512
    """Requests that may wait for a free slot of a node."""


TLS_SCHEME, PLAIN_SCHEME = "grpcs://", "grpc://"


def split_address(address: str) -> tuple[bool, str]:
    """Whether a node is reached by TLS, and its `host:port`."""
    return address.startswith(TLS_SCHEME), address.removeprefix(TLS_SCHEME).removeprefix(PLAIN_SCHEME)


class NodePool:
    """Known nodes and routing between them. Used on one event loop."""

    def __init__(
        self,
        options: PoolOptions,
        connect: Callable[[str, str], Connection],
        *,
        clock: Callable[[], float] = time.monotonic,
        count: Count = lambda node, outcome, seconds: None,
        on_change: "Callable[[NodePool], None]" = lambda pool: None,
    ) -> None:
        """`connect` makes the client for an address and a source (`static` or `mdns`).

        `on_change` is called when nodes, their states or their services change, before anybody can use the pool again.
        """
        self._options = options
        self._connect = connect
        self._clock = clock
        self._members: dict[str, Member] = {}
        self._monitors: dict[str, asyncio.Task[None]] = {}
        self._router = Router(self._members, clock, count, options.waiting)
        self._changed = asyncio.Event()
        self._on_change = on_change

    @classmethod
    def from_settings(
        cls,
        settings: Nodes,
        *,
        waiting: int = 512,
        count: Count = lambda node, outcome, seconds: None,
        on_change: "Callable[[NodePool], None]" = lambda pool: None,
    ) -> "NodePool":
        """A pool with the settings' limits and no node yet. Raises TlsInvalid.

        `waiting`: requests that may wait for a node.
        """
        chunking = Chunking(settings.chunk_auto, settings.chunk_threshold, settings.chunk_max_bytes)
        key = settings.node_key.get_secret_value() if settings.node_key else None

        tls = ClientTls.from_settings(settings)
        tls.credentials()  # unusable files are found now, not when a node is found

        def connect(address: str, source: str) -> Connection:
            # Anybody can announce a node: the key is for those that the operator named.
            is_secure, plain = split_address(address)
            own_key = key if source == "static" else None
            return NodeClient(plain, key=own_key, tls=tls if is_secure else None, chunking=chunking)

        options = PoolOptions(
            settings.node_limit,
            settings.node_connect_seconds,
            settings.node_health_seconds,
            settings.node_cooldown_min,
            settings.node_cooldown_max,
            settings.node_forget_seconds,
            waiting,
        )
        return cls(options, connect, count=count, on_change=on_change)

    # --- membership

    def add(self, address: str, *, name: str = "", source: str = "static", txt: Mapping[str, str] | None = None) -> str:
        """Add a node or refresh a known one; returns its id, `name@address`. Does nothing over the limit on nodes."""
        node_id = f"{name or source}@{address}"
        if (known := self._members.get(node_id)) is not None:
            if known.node.txt != (announced := dict(txt or {})):
                known.node.txt = announced
                known.recheck()  # it offers something else now, such as a model that was just loaded
            known.node.last_seen = datetime.now(UTC)
            return node_id
        if source != "static":
            if any(member.node.address == address for member in self._members.values()):
                return node_id  # configured, or found under another name
            if len(self._members) >= self._options.limit:
                log.warning("node not added: too many", address=address, limit=self._options.limit)
                return node_id
        options = self._options
        cooldown = Cooldown(options.cooldown_min, options.cooldown_max)
        node = Node(node_id, address, source, cooldown, dict(txt or {}))
        monitoring = MonitorOptions(options.connect, options.health, options.forget)
        client = self._connect(address, source)
        member = Member(node, client, monitoring, clock=self._clock, on_change=self._notify)
        self._members[node_id] = member
        self._monitors[node_id] = asyncio.create_task(self._monitor(member))
        log.info("node added", node=node_id, source=source)
        self._notify()
        return node_id

    async def remove(self, node_id: str) -> None:
        """Remove a node; its running requests fail."""
        member = self._members.pop(node_id, None)
        if member is None:
            return
        log.info("node removed", node=node_id)
        self._notify()
        monitor = self._monitors.pop(node_id)
        if monitor is not asyncio.current_task():
            monitor.cancel()
            await asyncio.gather(monitor, return_exceptions=True)
        await member.client.close()

    async def close(self) -> None:
        """Remove all nodes."""
        for node_id in list(self._members):
            await self.remove(node_id)

    async def _monitor(self, member: Member) -> None:
        await member.monitor()
        await self.remove(member.node.id)

    # --- what can be seen of them

    @property
    def nodes(self) -> list[Node]:
        """All known nodes, in the order in which they were added."""
        return [member.node for member in self._members.values()]

    async def changes(self) -> AsyncIterator[list[Node]]:
        """The nodes now, and again after each change of them, their states or their services. Never ends."""
        while True:
            changed = self._changed  # taken before the yield: a change while the consumer is busy is not missed
            yield self.nodes
            await changed.wait()

    def service_names(self) -> list[str]:
        """The name of every service that a compatible node has or, while it is unreachable, had."""
        compatible = [node for node in self.nodes if node.state is not State.INCOMPATIBLE]
        return list(dict.fromkeys(service_name(one) for node in compatible for one in node.capabilities))

    def tasks(self, service: str) -> tuple[TaskInfo, ...]:
        """The tasks of a service on all nodes that have it, those of ready nodes first."""
        having = [node for node in self.nodes if node.state is not State.INCOMPATIBLE]
        having.sort(key=lambda node: node.state is not State.READY)
        return tuple({task.name: task for node in reversed(having) for task in node.tasks(service)}.values())

    def is_ready(self, service: str) -> bool:
        """Whether any node takes a request for the service now."""
        return any(node.usable(self._clock()) and node.capability(service) for node in self.nodes)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change(self)
        self._router.serve_waiting()

    # --- requests

    def infer(
        self, service: str, request: InferRequest, scope: CancelScope, *, stream: bool, has_substitute: bool = False
    ) -> AsyncGenerator[InferResult, None]:
        """The response of the best node, as `Router.infer` has it."""
        return self._router.infer(service, request, scope, stream=stream, has_substitute=has_substitute)
