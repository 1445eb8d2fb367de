"""Requests that wait for a node: those for the same task in the order in which they came."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from mien.engine.cancellation import CancelScope
from mien.nodes.member import Member


@dataclass(eq=False, slots=True)
class Waiter:
    """A request for which all usable nodes are busy."""

    service: str
    task: str
    tried: Set[str]
    """Ids of the nodes that failed on it."""
    turn: "asyncio.Future[Member | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The node that is reserved for it; None: there is no usable node any more."""


class WaitingLine:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], deque[Waiter]] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def of(self, service: str) -> int:
        """Number of requests that wait for the service."""
        return self._counts[service]

    async def wait(self, waiter: Waiter, scope: CancelScope, release: Callable[[Member], None]) -> Member | None:
        """The node that `serve` reserves for the request. Raises DeadlineExceeded, Cancelled.

        `release` takes back what was reserved in the moment in which the scope ended.
        """
        key = (waiter.service, waiter.task)
        line = self._lines.setdefault(key, deque())
        line.append(waiter)
        self._counts[waiter.service] += 1
        try:
            async with scope.bounding():
                return await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled() and (member := waiter.turn.result()) is not None:
                release(member)
            raise
        finally:
            self._counts[waiter.service] -= 1
            if waiter in line:
                line.remove(waiter)
            if not line and self._lines.get(key) is line:
                del self._lines[key]

    def serve(self, reserve: Callable[[Waiter], Member | None], is_hopeless: Callable[[Waiter], bool]) -> None:
        """Give the first in each line a node, for as long as one is free. The hopeless ones wait no longer."""
        for line in list(self._lines.values()):
            while line:
                waiter = line[0]
                if not waiter.turn.done():
                    member = reserve(waiter)
                    if member is None and not is_hopeless(waiter):
                        break
                    waiter.turn.set_result(member)
                line.popleft()
