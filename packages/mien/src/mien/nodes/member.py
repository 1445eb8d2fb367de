"""A node of the pool with its connection: kept up to date for as long as the pool knows it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from mien.backoff import Backoff
from mien.engine.cancellation import CancelScope
from mien.errors import MienError, NodeIncompatible
from mien.inference.contract import InferRequest, InferResult
from mien.nodes.node import Node, State
from mien.nodes.proto.inference_pb2 import Capability

log = structlog.get_logger()

RETRY = Backoff(first=1.0, most=8.0)  # between tries to reach a node


class Connection(Protocol):
    """What the pool needs of a client of one node."""

    async def connect(self, seconds: float) -> tuple[Capability, ...]:
        """The node's capabilities. Raises NodeIncompatible for another protocol version, another MienError if the node
        cannot be reached within `seconds`."""

    async def check(self, seconds: float) -> None:
        """Raise MienError unless the node takes requests."""

    def infer(
        self, request: InferRequest, scope: CancelScope, *, service: str = "", stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        """The node's response. Raises Unavailable if the node is gone, Overloaded if it refuses for load, and any other
        MienError that the node reports."""

    async def close(self) -> None:
        """Close it; running requests fail with Unavailable."""


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """Durations in seconds."""

    connect: float = 5.0
    health: float = 30.0
    """Between health checks; 0: none."""
    forget: float = 300.0
    """After which a found node that cannot be reached is forgotten."""


class Member:
    """One node, its connection, and the loop that checks it."""

    def __init__(
        self,
        node: Node,
        client: Connection,
        options: MonitorOptions,
        *,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when the node's state or its capabilities change."""
        self.node = node
        self.client = client
        self._options = options
        self._clock = clock
        self._on_change = on_change
        self._recheck = asyncio.Event()

    def recheck(self) -> None:
        """Check the node now, not at the next health check: a request to it has just failed."""
        self._recheck.set()

    async def monitor(self) -> None:
        """Connect, check, and connect again. Ends when the node is to be forgotten."""
        failures = 0
        while True:
            self._recheck.clear()
            pause: float | None
            try:
                await self._check()
            except NodeIncompatible as error:
                self._enter(State.INCOMPATIBLE, error.message)
                failures, pause = 0, self._options.health or RETRY.most
            except MienError as error:
                self._lose(error)
                if self._is_forgotten():
                    return
                # `recheck` does not cut this short: it would turn requests to a dead node into a storm of connects.
                await asyncio.sleep(RETRY.pause(failures))
                failures += 1
                continue
            else:
                failures, pause = 0, self._options.health or None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._recheck.wait()

    async def _check(self) -> None:
        """Connect if need be, and read state and capabilities. Raises MienError."""
        node = self.node
        if node.state is State.DISCOVERED:
            self._enter(State.CONNECTING, "")
        capabilities = await self.client.connect(self._options.connect)
        await self.client.check(self._options.connect)
        if node.unreachable_since is not None:
            node.recovered()
            node.unreachable_since = None
        node.last_seen = datetime.now(UTC)
        is_different = node.capabilities != capabilities
        node.capabilities = capabilities
        if not self._enter(State.READY, "") and is_different:
            self._on_change()

    def _lose(self, error: MienError) -> None:
        if self.node.unreachable_since is None:
            self.node.unreachable_since = self._clock()
        self._enter(State.UNAVAILABLE, error.message)

    def _is_forgotten(self) -> bool:
        since = self.node.unreachable_since
        away = 0.0 if since is None else self._clock() - since
        return self.node.source != "static" and away >= self._options.forget

    def _enter(self, state: State, reason: str) -> bool:
        """Set the state; returns whether it changed."""
        node = self.node
        node.reason = reason
        if node.state is state:
            return False
        log.info("node changed", node=node.id, state=state.value, was=node.state.value, reason=reason or None)
        node.state = state
        self._on_change()
        return True
