"""This server and the nodes behind it as JSON: what `/v1/nodes`, `/v1/tasks` and the watch send."""

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from mien import __version__
from mien.http.lumen import schema
from mien.inference.contract import Service, TaskInfo
from mien.nodes.capability import RUNTIME, Capability, capability_of, from_message
from mien.nodes.contract import SOURCE_KEY
from mien.nodes.node import Node, State

LOCAL = "local"
"""Id of this server among the nodes."""
_STATUS = MappingProxyType(
    {
        State.DISCOVERED: "starting",
        State.CONNECTING: "starting",
        State.READY: "active",
        State.UNAVAILABLE: "error",
        State.INCOMPATIBLE: "error",
    }
)
"""The lifecycle states that older clients know."""


def now() -> str:
    """The current time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def local_node(services: Sequence[Service], max_concurrency: int) -> schema.Node:
    """This server as one of its nodes."""
    capabilities = [capability_of(service, max_concurrency) for service in services]
    models = dict.fromkeys(name for one in capabilities for name in one.model_ids)
    return {
        "id": LOCAL,
        "name": "mien",
        "address": "",
        "status": "active",
        "version": __version__,
        "runtime": RUNTIME,
        "models": [_model(name, RUNTIME) for name in models],
        "capabilities": [_capability(one, is_local=True) for one in capabilities],
        "last_seen": now(),
        "tasks": [task.name for one in capabilities for task in one.tasks],
        "weight": 1,
    }


def remote_node(node: Node) -> schema.Node:
    """A node on another machine, with its state and its figures."""
    capabilities = [from_message(message) for message in node.capabilities]
    models = {model: one.runtime for one in capabilities for model in one.model_ids}
    source = capabilities[0].extra.get(SOURCE_KEY) if capabilities else None
    runtime = capabilities[0].runtime if capabilities else ""
    incompatible = node.state is State.INCOMPATIBLE
    return {
        "id": node.id,
        "name": node.id.partition("@")[0],
        "address": node.address,
        "status": _STATUS[node.state],
        "availability": "unavailable" if incompatible else node.state.value,
        "compatibility": _compatibility(node),
        "incompatible_reason": node.reason if incompatible else "",
        "reason": node.reason,
        "sources": [node.source],
        "metadata": dict(node.txt),
        "version": source or node.txt.get("version") or node.txt.get("v", ""),
        "runtime": runtime or node.txt.get("runtime", ""),
        "models": [_model(name, by) for name, by in models.items()],
        "capabilities": [_capability(one, is_local=False) for one in capabilities],
        "last_seen": _moment(node.last_seen),
        "tasks": list(dict.fromkeys(task.name for one in capabilities for task in one.tasks)),
        "weight": 1,
        "outstanding": node.outstanding,
        "stats": {
            "total_requests": node.stats.requests,
            "successful_requests": node.stats.successes,
            "failed_requests": node.stats.failures,
            "average_latency": round(node.stats.latency * 1e9),
            "last_request": _moment(node.stats.last),
        },
    }


def watched_node(node: Node) -> dict[str, Any]:
    """A node as the messages of the watch have it."""
    txt = {key: node.txt[key] for key in ("v", "runtime") if key in node.txt}
    return {"node_id": node.id, "address": node.address, **({"txt": txt} if txt else {})}


def _compatibility(node: Node) -> str:
    if node.state is State.INCOMPATIBLE:
        return "incompatible"
    return "compatible" if node.state is State.READY or node.capabilities else "pending"


def _model(name: str, runtime: str) -> schema.NodeModel:
    return {"id": name, "name": name, "version": "", "runtime": runtime}


def _capability(one: Capability, *, is_local: bool) -> schema.NodeCapability:
    """`extra` is what the node sent; this server sends itself nothing."""
    extra: schema.NodeExtra = {} if is_local else {"extra": dict(one.extra)}
    return {
        "service_name": one.service_name,
        "model_ids": list(one.model_ids),
        "runtime": one.runtime,
        "max_concurrency": one.max_concurrency,
        "precisions": list(one.precisions),
        **extra,
        "tasks": [_task(task, is_local=is_local) for task in one.tasks],
        "protocol_version": one.protocol_version,
    }


def _task(task: TaskInfo, *, is_local: bool) -> schema.NodeTask:
    """Other nodes list their aliases as tasks."""
    aliases: schema.NodeAliases = {"aliases": list(task.aliases)} if is_local else {}
    return {
        "name": task.name,
        **aliases,
        "input_mimes": list(task.input_mimes),
        "output_mimes": list(task.output_mimes),
        "limits": dict(task.limits),
    }


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")


# --- all of them together


def tasks_of(nodes: Sequence[schema.Node]) -> schema.OfferedTasks:
    """Every task of every node, by service and all together."""
    services: dict[str, list[schema.OfferedTask]] = {}
    for node in nodes:
        for offered in node.get("capabilities") or ():
            services.setdefault(offered["service_name"], []).extend(
                {
                    "name": task["name"],
                    "aliases": task.get("aliases", []),
                    "input_mimes": task["input_mimes"],
                    "output_mime": task["output_mimes"],  # a list under the original's name for it
                    "node_id": node["id"],
                    "node_name": node["name"],
                    "service_name": offered["service_name"],
                    "node_address": node["address"],
                }
                for task in offered["tasks"]
            )
    every = [task for tasks in services.values() for task in tasks]
    return {
        "services": services,
        "all_tasks": every,
        "total_nodes": len(nodes),
        "active_nodes": active(nodes),
        "total_tasks": len(every),
        "services_count": len(services),
    }


def active(nodes: Sequence[schema.Node]) -> int:
    """How many nodes take requests."""
    return sum(node["status"] == "active" for node in nodes)
