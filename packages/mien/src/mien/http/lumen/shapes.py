"""What the door says about nodes and tasks, in the shapes that its clients know."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mien import __version__
from mien.inference.contract import Service, TaskInfo

LOCAL = "local"
"""Id of this server among the nodes."""
PROTOCOL_VERSION = "1.0"
RUNTIME = "onnxruntime"


def now() -> str:
    """This moment in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def envelope(data: Any) -> dict[str, Any]:
    """An answer as all of this door's look."""
    return {"success": True, "data": data, "timestamp": now()}


def local_node(services: Sequence[Service], max_concurrency: int) -> dict[str, Any]:
    """This server as one of its nodes."""
    models = dict.fromkeys(name for service in services for task in service.tasks() for name in task.model.split())
    return {
        "id": LOCAL,
        "name": "mien",
        "address": "",
        "status": "active",
        "version": __version__,
        "runtime": RUNTIME,
        "models": [{"id": name, "name": name, "version": "", "runtime": RUNTIME} for name in models],
        "capabilities": [_capability(service, max_concurrency) for service in services],
        "last_seen": now(),
        "tasks": [task.name for service in services for task in service.tasks()],
        "weight": 1,
    }


def _capability(service: Service, max_concurrency: int) -> dict[str, Any]:
    tasks = service.tasks()
    return {
        "service_name": service.name,
        "model_ids": list(dict.fromkeys(name for task in tasks for name in task.model.split())),
        "runtime": RUNTIME,
        "max_concurrency": max_concurrency,
        "precisions": ["fp32"],
        "tasks": [_task(task) for task in tasks],
        "protocol_version": PROTOCOL_VERSION,
    }


def _task(task: TaskInfo) -> dict[str, Any]:
    return {
        "name": task.name,
        "aliases": list(task.aliases),
        "input_mimes": list(task.input_mimes),
        "output_mimes": list(task.output_mimes),
        "limits": dict(task.limits),
    }


def tasks_of(nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Every task of every node, by service and all together."""
    services: dict[str, list[dict[str, Any]]] = {}
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


def active(nodes: Sequence[dict[str, Any]]) -> int:
    """How many nodes take requests."""
    return sum(node["status"] == "active" for node in nodes)
