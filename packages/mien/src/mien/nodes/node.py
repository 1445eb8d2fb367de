"""One known node: its state, its failures, its figures. No network and no waiting here; time is passed in."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mien.backoff import Backoff
from mien.inference.contract import TaskInfo
from mien.nodes.catalog import task_infos
from mien.nodes.proto.inference_pb2 import Capability

SMOOTHING = 0.1  # weight of the newest latency in the moving average


class State(StrEnum):
    """Whether requests go to a node: only while it is ready."""

    DISCOVERED = "discovered"
    CONNECTING = "connecting"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    INCOMPATIBLE = "incompatible"


_STATUS = {
    State.DISCOVERED: "starting",
    State.CONNECTING: "starting",
    State.READY: "active",
    State.UNAVAILABLE: "error",
    State.INCOMPATIBLE: "error",
}
"""Lifecycle words of older clients."""


@dataclass(slots=True)
class Cooldown:
    """A node that failed gets no requests for a while: `least` seconds, doubling with each failure up to `most`."""

    least: float
    most: float
    failures: int = 0
    """In a row."""
    until: float = float("-inf")
    """On the clock that the times below are of."""

    def failed(self, now: float) -> None:
        """Of requests that run side by side when the node breaks only the first one counts."""
        if now < self.until:
            return
        self.until = now + Backoff(self.least, self.most).pause(self.failures)
        self.failures += 1

    def cleared(self) -> None:
        self.failures = 0
        self.until = float("-inf")

    def left(self, now: float) -> float:
        """Seconds to go, 0 if there is none."""
        return max(0.0, self.until - now)


@dataclass(slots=True)
class Stats:
    """What was asked of a node since it is known."""

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
    txt: dict[str, str] = field(default_factory=dict)
    """What it said of itself when it was found."""
    state: State = State.DISCOVERED
    reason: str = ""
    """Why it is unavailable or incompatible."""
    capabilities: tuple[Capability, ...] = ()
    last_seen: datetime | None = None
    unreachable_since: float | None = None
    outstanding: int = 0
    """Requests it is working on for us."""
    turn: int = 0
    """When it was last chosen, as a number that grows: among equals the longest unused comes first."""
    stats: Stats = field(default_factory=Stats)

    def usable(self, now: float) -> bool:
        return self.state is State.READY and not self.cooldown.left(now)

    def capability(self, service: str) -> Capability | None:
        """Its service of that name, lower case."""
        return next((one for one in self.capabilities if service_name(one) == service), None)

    def spelling(self, service: str) -> str:
        """The node's own way to write the name of its service."""
        found = self.capability(service)
        return service if found is None else found.service_name

    def tasks(self, service: str) -> tuple[TaskInfo, ...]:
        found = self.capability(service)
        return () if found is None else task_infos(found)

    def shown(self) -> dict[str, Any]:
        """The node as `GET /v1/nodes` has it."""
        first = self.capabilities[0] if self.capabilities else Capability()
        compatible = {State.INCOMPATIBLE: "incompatible", State.READY: "compatible"}
        models = {model: one.runtime for one in self.capabilities for model in one.model_ids}
        version = first.extra.get("mien") or self.txt.get("version") or self.txt.get("v", "")
        return {
            "id": self.id,
            "name": self.id.partition("@")[0],
            "address": self.address,
            "status": _STATUS[self.state],
            "availability": "unavailable" if self.state is State.INCOMPATIBLE else self.state.value,
            "compatibility": compatible.get(self.state, "compatible" if self.capabilities else "pending"),
            "incompatible_reason": self.reason if self.state is State.INCOMPATIBLE else "",
            "reason": self.reason,
            "sources": [self.source],
            "metadata": dict(self.txt),
            "version": version,
            "runtime": first.runtime or self.txt.get("runtime", ""),
            "models": [{"id": name, "name": name, "version": "", "runtime": by} for name, by in models.items()],
            "capabilities": [shown_capability(one) for one in self.capabilities],
            "last_seen": _moment(self.last_seen),
            "tasks": list(dict.fromkeys(task.name for one in self.capabilities for task in task_infos(one))),
            "weight": 1,
            "outstanding": self.outstanding,
            "stats": {
                "total_requests": self.stats.requests,
                "successful_requests": self.stats.successes,
                "failed_requests": self.stats.failures,
                "average_latency": round(self.stats.latency * 1e9),
                "last_request": _moment(self.stats.last),
            },
        }

    def watched(self) -> dict[str, Any]:
        """The node as `GET /v1/nodes/watch` has it."""
        txt = {key: self.txt[key] for key in ("v", "runtime") if key in self.txt}
        return {"node_id": self.id, "address": self.address, **({"txt": txt} if txt else {})}


def service_name(capability: Capability) -> str:
    """The name under which a node's service can be asked for."""
    return capability.service_name.strip().lower()


def shown_capability(one: Capability) -> dict[str, Any]:
    """A capability as `GET /v1/nodes` has it."""
    return {
        "service_name": one.service_name,
        "model_ids": list(one.model_ids),
        "runtime": one.runtime,
        "max_concurrency": one.max_concurrency,
        "precisions": list(one.precisions),
        "extra": dict(one.extra),
        "tasks": [
            {
                "name": task.name,
                "input_mimes": list(task.input_mimes),
                "output_mimes": list(task.output_mimes),
                "limits": dict(task.limits),
            }
            for task in task_infos(one)
        ],
        "protocol_version": one.protocol_version,
    }


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
