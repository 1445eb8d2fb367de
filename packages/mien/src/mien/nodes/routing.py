"""Which node gets a request, and what happens when that one fails."""

import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Set
from contextlib import aclosing, contextmanager
from typing import Protocol

import structlog

from mien.engine.cancellation import CancelScope
from mien.errors import MienError, NodeLost, NotFound, Overloaded, Unavailable
from mien.inference.contract import InferRequest, InferResult
from mien.nodes.member import RETRY, Member
from mien.nodes.node import Node, State
from mien.nodes.waiting import Waiter, WaitingLine

log = structlog.get_logger()


class Count(Protocol):
    """Counts requests to nodes: `ok`, `failed` or `cancelled`, and the seconds they took."""

    def __call__(self, node: str, outcome: str, seconds: float) -> None: ...


class Router:
    """Sends requests to the pool's members, as many at once as each advertises; others wait for their turn."""

    def __init__(self, members: Mapping[str, Member], clock: Callable[[], float], count: Count, waiting: int) -> None:
        """`members`: by id, as they are at any time; the pool changes them. `waiting`: requests that may wait."""
        self._members = members
        self._clock = clock
        self._count = count
        self._most_waiting = waiting
        self._line = WaitingLine()
        self._turns = 0

    async def infer(
        self, service: str, request: InferRequest, scope: CancelScope, *, stream: bool, has_substitute: bool = False
    ) -> AsyncGenerator[InferResult, None]:
        """The response of the best node, or of the next best if that one fails before its first message.

        `has_substitute`: another service would answer the request, which therefore waits only behind as many others as
        the nodes run at once. Raises NotFound if no node ever had the task, Unavailable if none takes requests now,
        Overloaded if too many wait, else the node's error.
        """
        tried: set[str] = set()
        failure: MienError | None = None
        while True:
            if not self._usable(service, request.task, tried):
                raise failure or self._unroutable(service, request.task)
            member = await self._reserved(Waiter(service, request.task, frozenset(tried)), scope, has_substitute)
            if member is None:
                continue
            tried.add(member.node.id)
            task = _task_name(member.node, service, request.task) or ""
            asked = InferRequest(request.items, task, request.metadata, request.correlation_id, request.owner)
            started = False
            try:
                with self._measured(member, service, task, scope) as answered:
                    spelled = member.node.spelling(service)
                    response = member.client.infer(asked, scope, service=spelled, stream=stream)
                    async with aclosing(response) as results:
                        async for result in results:
                            started = True
                            if result.is_final:
                                answered()
                            yield result
            except (Unavailable, Overloaded) as error:
                # Once a message went out, another node's response would begin again from the start.
                if started or scope.over():
                    raise
                log.info("node refused; trying another", node=member.node.id, reason=error.message)
                failure = error
            else:
                return

    def serve_waiting(self) -> None:
        """Send off requests that wait: a node has a free slot, or the nodes have changed."""
        self._line.serve(self._reserve, lambda waiter: not self._usable(waiter.service, waiter.task, waiter.tried))

    async def _reserved(self, waiter: Waiter, scope: CancelScope, has_substitute: bool) -> Member | None:
        """A node with a slot for the request, which may be waited for; None if there is no usable node any more."""
        if (member := self._reserve(waiter)) is not None:
            return member
        slots = self._slots(waiter)
        waiting = len(self._line)
        if waiting >= self._most_waiting or (has_substitute and self._line.of(waiter.service) >= slots):
            raise Overloaded(
                f"{waiting} requests wait for a node, the limit", retry_after=self._seconds_to_wait(waiter, slots)
            )
        return await self._line.wait(waiter, scope, lambda member: self._release(member, waiter.service))

    def _slots(self, waiter: Waiter) -> int:
        """How many requests the usable nodes run at once. All of them are busy, so each says how many it takes."""
        usable = self._usable(waiter.service, waiter.task, waiter.tried)
        return sum(member.node.busy[waiter.service] for member in usable)

    def _seconds_to_wait(self, waiter: Waiter, slots: int) -> float:
        """Until the waiting requests are answered, by what the nodes took for earlier ones; at least 1."""
        usable = self._usable(waiter.service, waiter.task, waiter.tried)
        latency = max((member.node.stats.latency for member in usable), default=0.0)
        return float(max(1, math.ceil(len(self._line) * latency / max(1, slots))))

    def _usable(self, service: str, task: str, tried: Set[str]) -> list[Member]:
        now = self._clock()
        return [
            member
            for member in self._members.values()
            if member.node.id not in tried
            and (name := _task_name(member.node, service, task)) is not None
            and member.node.usable(now, service, name)
        ]

    def _reserve(self, waiter: Waiter) -> Member | None:
        """A slot of the usable node with the fewest outstanding requests; among equals the longest unused."""
        usable = self._usable(waiter.service, waiter.task, waiter.tried)
        free = [member for member in usable if member.node.free_slots(waiter.service) >= 1]
        if not free:
            return None
        best = min(free, key=lambda member: (member.node.outstanding, member.node.turn))
        self._turns += 1
        best.node.turn = self._turns
        best.node.outstanding += 1
        best.node.busy[waiter.service] += 1
        return best

    def _release(self, member: Member, service: str) -> None:
        member.node.outstanding -= 1
        member.node.busy[service] -= 1
        self.serve_waiting()

    def _unroutable(self, service: str, task: str) -> MienError:
        having = [
            (member.node, name)
            for member in self._members.values()
            if (name := _task_name(member.node, service, task)) is not None
        ]
        if not having:
            return NotFound(f"no node has the task {task!r} of the service {service!r}")
        now = self._clock()
        ready = [node.cooldown_left(now, service, name) for node, name in having if node.state is State.READY]
        reasons = "; ".join(f"{node.id}: {node.reason or 'failed, cooling down'}" for node, _ in having)
        retry = min(ready, default=RETRY.most)
        return Unavailable(f"no node takes requests for {task or service!r} now ({reasons})", retry_after=retry)

    @contextmanager
    def _measured(self, member: Member, service: str, task: str, scope: CancelScope) -> Iterator[Callable[[], None]]:
        """Count a request, whose slot is released. A node that is gone is checked at once.

        Yields what is to be called at the final message: a caller that stops reading there still got its response.
        """
        node, started, began = member.node, time.perf_counter(), self._clock()
        node.stats.began()
        outcome = "cancelled"

        def works() -> None:
            node.cooldown.cleared()
            node.task_cooldowns.pop((service, task.lower()), None)

        def answered() -> None:
            nonlocal outcome
            outcome = "ok"
            works()

        try:
            yield answered
        except Unavailable as error:
            outcome = "failed"
            struck = node.cooldown if isinstance(error, NodeLost) else node.task_cooldown(service, task)
            struck.failed(began, self._clock())
            member.recheck()
            raise
        except MienError as error:
            outcome = "cancelled" if scope.cancelled else "failed"
            if error.status < 500:  # the node works: the request was wrong
                works()
            raise
        finally:
            seconds = time.perf_counter() - started
            if outcome == "ok":
                node.stats.succeeded(seconds)
            elif outcome == "failed":
                node.stats.failed()
            self._count(node.id, outcome, seconds)
            self._release(member, service)


def _task_name(node: Node, service: str, task: str) -> str | None:
    """The node's own spelling of a task of its service, its default task for an empty name; None if it has none."""
    capability = None if node.state is State.INCOMPATIBLE else node.capability(service)
    if capability is None or not capability.tasks:
        return None
    wanted = task.strip().lower()
    if not wanted:
        return capability.tasks[0].name
    return next((one.name for one in capability.tasks if one.name.lower() == wanted), None)
