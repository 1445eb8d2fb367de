"""The nodes behind this server: which are known, which are well, and which one gets a request."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from mien.backoff import Backoff
from mien.engine.cancellation import CancelScope
from mien.errors import MienError, NodeIncompatible, NotFound, Overloaded, Unavailable
from mien.inference.contract import InferRequest, InferResult, TaskInfo
from mien.nodes.client import Chunking, NodeClient
from mien.nodes.node import Cooldown, Node, State, service_name
from mien.nodes.proto.inference_pb2 import Capability
from mien.settings import Nodes

log = structlog.get_logger()

RETRY = Backoff(first=1.0, most=8.0)  # between tries to reach a node


class Connection(Protocol):
    """What the pool needs of a client of one node."""

    async def connect(self, seconds: float) -> tuple[Capability, ...]: ...

    async def check(self, seconds: float) -> None: ...

    def infer(
        self, request: InferRequest, call: CancelScope, *, service: str = "", stream: bool
    ) -> AsyncGenerator[InferResult, None]: ...

    async def close(self) -> None: ...


class Count(Protocol):
    """Where requests to nodes are counted: `ok`, `failed` or `cancelled`, and how long they took."""

    def __call__(self, node: str, outcome: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Durations in seconds."""

    limit: int = 20
    connect: float = 5.0
    health: float = 30.0
    """Between health checks; 0: none."""
    cooldown_min: float = 10.0
    cooldown_max: float = 120.0
    forget: float = 300.0
    """After which a found node that cannot be reached is forgotten."""


@dataclass(slots=True)
class _Member:
    """A node with what keeps it up to date."""

    node: Node
    client: Connection
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request failed in a way that makes a look at the node worthwhile."""
    keeper: "asyncio.Task[None] | None" = None


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

        `on_change` is told when nodes, their states or their services change, before anybody can ask the pool again.
        """
        self._options = options
        self._connect = connect
        self._clock = clock
        self._count = count
        self._members: dict[str, _Member] = {}
        self._turns = 0
        self._changed = asyncio.Event()
        self._on_change = on_change

    @classmethod
    def from_settings(
        cls,
        settings: Nodes,
        *,
        count: Count = lambda node, outcome, seconds: None,
        on_change: "Callable[[NodePool], None]" = lambda pool: None,
    ) -> "NodePool":
        """A pool with the settings' limits, not yet started."""
        chunking = Chunking(settings.chunk_auto, settings.chunk_threshold, settings.chunk_max_bytes)
        key = settings.node_key.get_secret_value() if settings.node_key else None

        def connect(address: str, source: str) -> Connection:
            return NodeClient(address, key=key if source == "static" else None, chunking=chunking)

        options = PoolOptions(
            settings.node_limit,
            settings.node_connect_seconds,
            settings.node_health_seconds,
            settings.node_cooldown_min,
            settings.node_cooldown_max,
            settings.node_forget_seconds,
        )
        return cls(options, connect, count=count, on_change=on_change)

    # --- which nodes there are

    def add(self, address: str, *, name: str = "", source: str = "static", txt: Mapping[str, str] | None = None) -> str:
        """Get to know a node (again); returns its id, `name@address`. Nothing happens over the limit on nodes."""
        node_id = f"{name or source}@{address}"
        if (known := self._members.get(node_id)) is not None:
            known.node.txt = dict(txt or {})
            known.node.last_seen = datetime.now(UTC)
            return node_id
        if source != "static":
            if any(member.node.address == address for member in self._members.values()):
                return node_id  # listed, or found under another name
            if len(self._members) >= self._options.limit:
                log.warning("node not added: too many", address=address, limit=self._options.limit)
                return node_id
        cooldown = Cooldown(self._options.cooldown_min, self._options.cooldown_max)
        node = Node(node_id, address, source, cooldown, dict(txt or {}))
        member = self._members[node_id] = _Member(node, self._connect(address, source))
        member.keeper = asyncio.create_task(self._keep(member))
        log.info("node added", node=node_id, source=source)
        self._tell()
        return node_id

    async def remove(self, node_id: str) -> None:
        """Forget a node; its running requests fail."""
        member = self._members.pop(node_id, None)
        if member is None:
            return
        log.info("node removed", node=node_id)
        self._tell()
        if member.keeper is not None and member.keeper is not asyncio.current_task():
            member.keeper.cancel()
            await asyncio.gather(member.keeper, return_exceptions=True)
        await member.client.close()

    async def close(self) -> None:
        """Forget all nodes."""
        for node_id in list(self._members):
            await self.remove(node_id)

    # --- what can be seen of them

    @property
    def nodes(self) -> list[Node]:
        return [member.node for member in self._members.values()]

    def snapshot(self) -> list[dict[str, Any]]:
        """Every node as `GET /v1/nodes` has it."""
        return [node.shown() for node in self.nodes]

    def watched(self) -> dict[str, Any]:
        """The message of `GET /v1/nodes/watch`."""
        return {"type": "snapshot", "nodes": [node.watched() for node in self.nodes]}

    async def changes(self) -> AsyncIterator[dict[str, Any]]:
        """`watched()` now, and again after each change; ends never."""
        last = None
        while True:
            changed = self._changed
            if (now := self.watched()) != last:
                last = now
                yield now
            await changed.wait()

    def services(self) -> list["RemoteService"]:
        """A service for every service name that any compatible node has or, while it is away, had."""
        names = dict.fromkeys(
            service_name(one)
            for node in self.nodes
            if node.state is not State.INCOMPATIBLE
            for one in node.capabilities
        )
        return [RemoteService(self, name) for name in names]

    def tasks(self, service: str) -> tuple[TaskInfo, ...]:
        """The tasks of a service on all nodes that have it, those that are ready first."""
        having = [node for node in self.nodes if node.state is not State.INCOMPATIBLE]
        having.sort(key=lambda node: node.state is not State.READY)
        return tuple({task.name: task for node in reversed(having) for task in node.tasks(service)}.values())

    def is_ready(self, service: str) -> bool:
        """Whether any node would take a request for the service now."""
        return any(node.usable(self._clock()) and node.capability(service) for node in self.nodes)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change(self)

    # --- keeping up with one

    async def _keep(self, member: _Member) -> None:
        """Connect, watch, and connect again, for as long as the node is known."""
        node, failures = member.node, 0
        while True:
            member.hurry.clear()
            try:
                await self._look(member)
            except NodeIncompatible as error:
                self._became(node, State.INCOMPATIBLE, error.message)
                failures, wait = 0, self._options.health or RETRY.most
            except MienError as error:
                self._lost(node, error)
                if self._is_forgotten(node):
                    await self.remove(node.id)
                    return
                await asyncio.sleep(RETRY.pause(failures))  # whatever the hurry
                failures += 1
                continue
            else:
                failures, wait = 0, RETRY.first
            healthy = node.state is State.READY
            pause = (self._options.health or None) if healthy else wait
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await member.hurry.wait()

    async def _look(self, member: _Member) -> None:
        """See that the node is well and what it can do. Raises MienError."""
        node = member.node
        if node.state is State.DISCOVERED:
            self._became(node, State.CONNECTING, "")
        capabilities = await member.client.connect(self._options.connect)
        await member.client.check(self._options.connect)
        if node.unreachable_since is not None:  # it was away: what comes back is not what failed
            node.cooldown.cleared()
            node.unreachable_since = None
        node.last_seen = datetime.now(UTC)
        different = node.capabilities != capabilities
        node.capabilities = capabilities
        if not self._became(node, State.READY, "") and different:
            self._tell()

    def _lost(self, node: Node, error: MienError) -> None:
        if node.unreachable_since is None:
            node.unreachable_since = self._clock()
        self._became(node, State.UNAVAILABLE, error.message)

    def _is_forgotten(self, node: Node) -> bool:
        away = 0.0 if node.unreachable_since is None else self._clock() - node.unreachable_since
        return node.source != "static" and away >= self._options.forget

    def _became(self, node: Node, state: State, reason: str) -> bool:
        node.reason = reason
        if node.state is state:
            return False
        log.info("node changed", node=node.id, state=state.value, was=node.state.value, reason=reason or None)
        node.state = state
        self._tell()
        return True

    # --- asking them

    async def infer(
        self, service: str, request: InferRequest, call: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        """The answer of the best node, of another one if that fails before its first message.

        Raises NotFound if no node ever had the task, Unavailable if none takes requests now, else what the node says.
        """
        tried: set[str] = set()
        failure: MienError | None = None
        while True:
            member = self._choose(service, request.task, tried)
            if member is None:
                raise failure or self._nobody(service, request.task)
            tried.add(member.node.id)
            task = _task_name(member.node, service, request.task) or ""
            asked = InferRequest(request.items, task, request.metadata, request.correlation_id)
            started = False
            try:
                with self._measured(member, call) as answered:
                    spelled = member.node.spelling(service)
                    answer = member.client.infer(asked, call, service=spelled, stream=stream)
                    async with aclosing(answer) as results:
                        async for result in results:
                            started = True
                            if result.is_final:
                                answered()
                            yield result
            except (Unavailable, Overloaded) as error:
                if started or call.over():
                    raise
                log.info("node refused; trying another", node=member.node.id, reason=error.message)
                failure = error
            else:
                return

    def _choose(self, service: str, task: str, tried: set[str]) -> _Member | None:
        """The usable node with the fewest requests of ours; among equals the longest unused."""
        now = self._clock()
        usable = [
            member
            for member in self._members.values()
            if member.node.id not in tried and member.node.usable(now) and _has(member.node, service, task)
        ]
        if not usable:
            return None
        best = min(usable, key=lambda member: (member.node.outstanding, member.node.turn))
        self._turns += 1
        best.node.turn = self._turns
        return best

    def _nobody(self, service: str, task: str) -> MienError:
        having = [node for node in self.nodes if _has(node, service, task)]
        if not having:
            return NotFound(f"no node has the task {task!r} of the service {service!r}")
        now = self._clock()
        ready = [node.cooldown.left(now) for node in having if node.state is State.READY]
        reasons = "; ".join(f"{node.id}: {node.reason or 'failed, cooling down'}" for node in having)
        retry = min(ready, default=RETRY.most)
        return Unavailable(f"no node takes requests for {task or service!r} now ({reasons})", retry_after=retry)

    @contextmanager
    def _measured(self, member: _Member, call: CancelScope) -> Iterator[Callable[[], None]]:
        """Count a request; a node that is not there cools down and is looked at.

        Yields what is to be called when the final message is there.
        """
        node, started = member.node, time.perf_counter()
        node.outstanding += 1
        node.stats.began()
        outcome = "cancelled"

        def answered() -> None:
            nonlocal outcome
            outcome = "ok"
            node.cooldown.cleared()

        try:
            yield answered
        except Unavailable:
            outcome = "failed"
            node.cooldown.failed(self._clock())
            member.hurry.set()
            raise
        except MienError as error:
            outcome = "cancelled" if call.cancelled else "failed"
            if error.status < 500:  # it works: the request was wrong
                node.cooldown.cleared()
            raise
        finally:
            seconds = time.perf_counter() - started
            node.outstanding -= 1
            if outcome == "ok":
                node.stats.succeeded(seconds)
            elif outcome == "failed":
                node.stats.failed()
            self._count(node.id, outcome, seconds)


class RemoteService:
    """A service that one or more nodes have, as any other service of this server."""

    remote = True

    def __init__(self, pool: NodePool, name: str) -> None:
        self._pool = pool
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def tasks(self) -> Sequence[TaskInfo]:
        return self._pool.tasks(self._name)

    def infer(self, request: InferRequest, call: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        return self._pool.infer(self._name, request, call, stream=stream)


def _has(node: Node, service: str, task: str) -> bool:
    return _task_name(node, service, task) is not None


def _task_name(node: Node, service: str, task: str) -> str | None:
    """The node's own spelling of a task of its service, its default for none; None if it does not have it."""
    capability = None if node.state is State.INCOMPATIBLE else node.capability(service)
    if capability is None or not capability.tasks:
        return None
    wanted = task.strip().lower()
    if not wanted:
        return capability.tasks[0].name
    return next((one.name for one in capability.tasks if one.name.lower() == wanted), None)
