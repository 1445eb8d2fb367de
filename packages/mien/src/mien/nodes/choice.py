"""Which of a node's services a gRPC request means.

Not as `/v1/infer` chooses: there a service is named first and tasks are compared in any case; here clients know the
task names that capabilities list, and the service is a hint only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mien.errors import NotFound, RequestError, Unavailable
from mien.inference.contract import Service
from mien.nodes.capability import ALL, names
from mien.nodes.contract import STREAM_SUFFIX


@dataclass(frozen=True, slots=True)
class Choice:
    """The service that answers a request."""

    service: Service
    task: str
    """The task's name at the service; empty: its default."""
    stream: bool


def choose(services: Sequence[Service], task: str, hint: str) -> Choice:
    """The service for a request's task and its optional service hint. Raises NotFound, RequestError, Unavailable."""
    if not services:
        raise Unavailable("this node has no services yet", retry_after=2.0)
    task, hint = task.strip(), hint.strip().lower()
    if hint and hint != ALL:
        wanted = {hint, hint.removesuffix(STREAM_SUFFIX)}
        services = [service for service in services if service.name in wanted]
        if not services:
            raise NotFound(f"there is no service {hint!r} here")
    if not task:
        if len(services) > 1:
            raise RequestError("the request names no task")
        return Choice(services[0], "", hint.endswith(STREAM_SUFFIX))
    plain = task.removesuffix(STREAM_SUFFIX)
    for name in dict.fromkeys((task, plain)):
        for service in services:
            if any(name in names(info) for info in service.tasks()):
                return Choice(service, name, task.endswith(STREAM_SUFFIX))
    for service in services:
        if service.name in (task, plain):
            return Choice(service, "", service.name != task)
    known = sorted({name for service in services for info in service.tasks() for name in names(info)})
    raise NotFound(f"there is no task {task!r} here; there are: {', '.join(known)}")
