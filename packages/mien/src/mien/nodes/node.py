"""One known node: its state, its cooldown, its figures. No network and no waiting here; time is passed in."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from mien.backoff import Backoff
from mien.inference.contract import TaskInfo
from mien.nodes.capability import task_infos
from mien.nodes.proto.inference_pb2 import Capability

SMOOTHING = 0.1  # weight of the newest latency in the moving average


class State(StrEnum):
    """The state of a node. Requests go to it only while it is ready."""

    DISCOVERED = "discovered"
    CONNECTING = "connecting"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    INCOMPATIBLE = "incompatible"


STRIKES = 3
"""Consecutive failures that start a cooldown, as in the original: one may be an accident."""


@dataclass(slots=True)
class Cooldown:
    """What failed three times in a row gets no requests for `least` seconds, and then one request: if that fails, too,
    for twice as long, up to `most`."""

    least: float
    most: float
    failures: int = 0
    """In a row."""
    until: float = float("-inf")
    """On the clock of the times that the methods take."""
    counted: float = float("-inf")
    """When the last failure was counted."""

    def failed(self, began: float, now: float) -> None:
        """A request that began at `began` failed. Of those that fail together when something breaks, one counts."""
        if began < self.counted or now < self.until:
            return
        self.counted = now
        self.failures += 1
        if self.failures >= STRIKES:
            self.until = now + Backoff(self.least, self.most).pause(self.failures - STRIKES)

    def cleared(self) -> None:
        self.failures = 0
        self.until = float("-inf")

    def left(self, now: float) -> float:
        """Seconds to go, 0 if there is none."""
        return max(0.0, self.until - now)


@dataclass(slots=True)
class Stats:
    """Requests to a node since it was added."""

    requests: int = 0
    successes: int = 0
    failures: int = 0
    latency: float = 0.0
    """Moving average over successful requests, in seconds."""
    last: datetime | None = None

    def began(self) -> None:
        self.requests += 1
        self.last = datetime.now(UTC)

    def succeeded(self, seconds: float) -> None:
        self.successes += 1
        self.latency = seconds if self.successes == 1 else self.latency + SMOOTHING * (seconds - self.latency)

    def failed(self) -> None:
        self.failures += 1


@dataclass(slots=True)
class Node:
    """What is known of one node."""

    id: str
    address: str
    """host:port"""
    source: str
    """`static` or `mdns`."""
    cooldown: Cooldown
    """Of the node as a whole: its connection breaks."""
    txt: dict[str, str] = field(default_factory=dict)
    """The TXT record of its announcement."""
    task_cooldowns: dict[tuple[str, str], Cooldown] = field(default_factory=dict)
    """Of single tasks, by service and task: the node works, but reports that it cannot do this now."""
    state: State = State.DISCOVERED
    reason: str = ""
    """Why it is unavailable or incompatible."""
    capabilities: tuple[Capability, ...] = ()
    last_seen: datetime | None = None
    unreachable_since: float | None = None
    outstanding: int = 0
    """Requests of this server that it has not answered yet."""
    busy: Counter[str] = field(default_factory=Counter)
    """The same by service."""
    turn: int = 0
    """Number of the choice that last fell on it: among equals, the longest unused is chosen."""
    stats: Stats = field(default_factory=Stats)

    def usable(self, now: float, service: str = "", task: str = "") -> bool:
        """Whether it gets requests for the task; without one, whether it gets any."""
        return self.state is State.READY and not self.cooldown_left(now, service, task)

    def cooldown_left(self, now: float, service: str, task: str) -> float:
        """Seconds until it gets requests for the task again, 0 if it does now."""
        own = self.task_cooldowns.get((service, task.lower()))
        return max(self.cooldown.left(now), 0.0 if own is None else own.left(now))

    def task_cooldown(self, service: str, task: str) -> Cooldown:
        fresh = Cooldown(self.cooldown.least, self.cooldown.most)
        return self.task_cooldowns.setdefault((service, task.lower()), fresh)

    def recovered(self) -> None:
        """It was away, perhaps restarted: old failures say nothing about it."""
        self.cooldown.cleared()
        self.task_cooldowns.clear()

    def free_slots(self, service: str) -> float:
        """How many more requests for the service it takes at once, by what it advertises; may be negative."""
        found = self.capability(service)
        most = 0 if found is None else found.max_concurrency
        return most - self.busy[service] if most else float("inf")  # 0: it does not say

    def capability(self, service: str) -> Capability | None:
        """Its service of that name, which is in lower case."""
        return next((one for one in self.capabilities if service_name(one) == service), None)

    def spelling(self, service: str) -> str:
        """The node's own spelling of a service's name."""
        found = self.capability(service)
        return service if found is None else found.service_name

    def tasks(self, service: str) -> tuple[TaskInfo, ...]:
        found = self.capability(service)
        return () if found is None else task_infos(found)


def service_name(capability: Capability) -> str:
    """The name by which a node's service is asked for."""
    return capability.service_name.strip().lower()
