"""Which node gets a request, and what happens when that one fails."""

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Protocol

import structlog

from mien.engine.cancellation import CancelScope
from mien.errors import MienError, NotFound, Overloaded, Unavailable
from mien.inference.contract import InferRequest, InferResult
from mien.nodes.member import RETRY, Member
from mien.nodes.node import Node, State

log = structlog.get_logger()


class Count(Protocol):
    """Counts requests to nodes: `ok`, `failed` or `cancelled`, and the seconds they took."""

    def __call__(self, node: str, outcome: str, seconds: float) -> None: ...


class Router:
    """Sends requests to the pool's members."""

    def __init__(self, members: Mapping[str, Member], clock: Callable[[], float], count: Count) -> None:
        """`members`: by id, as they are at any time; the pool changes them."""
        self._members = members
        self._clock = clock
        self._count = count
        self._turns = 0

    async def infer(
        self, service: str, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        """The response of the best node, or of the next best if that one fails before its first message.

        Raises NotFound if no node ever had the task, Unavailable if none takes requests now, else the node's error.
        """
        tried: set[str] = set()
        failure: MienError | None = None
        while True:
            member = self._choose(service, request.task, tried)
            if member is None:
                raise failure or self._unroutable(service, request.task)
            tried.add(member.node.id)
            task = _task_name(member.node, service, request.task) or ""
            asked = InferRequest(request.items, task, request.metadata, request.correlation_id, request.owner)
            started = False
            try:
                with self._measured(member, scope) as answered:
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

    def _choose(self, service: str, task: str, tried: set[str]) -> Member | None:
        """The usable node with the fewest outstanding requests; among equals the longest unused."""
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

    def _unroutable(self, service: str, task: str) -> MienError:
        having = [member.node for member in self._members.values() if _has(member.node, service, task)]
        if not having:
            return NotFound(f"no node has the task {task!r} of the service {service!r}")
        now = self._clock()
        ready = [node.cooldown.left(now) for node in having if node.state is State.READY]
        reasons = "; ".join(f"{node.id}: {node.reason or 'failed, cooling down'}" for node in having)
        retry = min(ready, default=RETRY.most)
        return Unavailable(f"no node takes requests for {task or service!r} now ({reasons})", retry_after=retry)

    @contextmanager
    def _measured(self, member: Member, scope: CancelScope) -> Iterator[Callable[[], None]]:
        """Count a request. A node that is gone starts its cooldown and is checked at once.

        Yields what is to be called at the final message: a caller that stops reading there still got its response.
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
            member.recheck()
            raise
        except MienError as error:
            outcome = "cancelled" if scope.cancelled else "failed"
            if error.status < 500:  # the node works: the request was wrong
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


def _has(node: Node, service: str, task: str) -> bool:
    return _task_name(node, service, task) is not None


def _task_name(node: Node, service: str, task: str) -> str | None:
    """The node's own spelling of a task of its service, its default task for an empty name; None if it has none."""
    capability = None if node.state is State.INCOMPATIBLE else node.capability(service)
    if capability is None or not capability.tasks:
        return None
    wanted = task.strip().lower()
    if not wanted:
        return capability.tasks[0].name
    return next((one.name for one in capability.tasks if one.name.lower() == wanted), None)
