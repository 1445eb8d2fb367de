"""Which of a node's services a gRPC request means."""

from collections.abc import Sequence
from dataclasses import dataclass

from mien.errors import NotFound, RequestError, Unavailable
from mien.inference.contract import Service
from mien.inference.registry import pick
from mien.nodes.capability import ALL
from mien.nodes.contract import STREAM_SUFFIX


@dataclass(frozen=True, slots=True)
class Choice:
    """The service that answers a request."""

    service: Service
    task: str
    """The task's name at the service, as the request spells it; empty: its default."""
    stream: bool


def choose(services: Sequence[Service], task: str, hint: str) -> Choice:
    """The service for a request's task and its optional service hint. Raises NotFound, RequestError, Unavailable.

    As for `/v1/infer`, but the suffix that asks for a stream is the task's, and the service is a hint only: clients
    know the task names that capabilities list.
    """
    if not services:
        raise Unavailable("this node has no services yet", retry_after=2.0)
    task, hint = task.strip(), hint.strip().lower()
    if hint == ALL:
        hint = ""
    known = {service.name for service in services}
    plain_hint = hint if hint in known else hint.removesuffix(STREAM_SUFFIX)
    if not task:
        if len(services) > 1 and not plain_hint:
            raise RequestError("the request names no task")
        service = pick([services], plain_hint, "")[0] if plain_hint else services[0]
        return Choice(service, "", hint != plain_hint)
    plain = task[: -len(STREAM_SUFFIX)] if task.lower().endswith(STREAM_SUFFIX) else task
    failure: NotFound | None = None
    for name in dict.fromkeys((task, plain)):
        try:
            return Choice(pick([services], plain_hint, name, is_hint=True)[0], name, task != plain)
        except NotFound as error:
            failure = failure or error
    for service in services:
        if service.name in (task.lower(), plain.lower()) and plain_hint in ("", service.name):
            return Choice(service, "", service.name != task.lower())
    raise failure or NotFound(f"there is no task {task!r} here")
