"""What a node offers: its services as capability messages, and which of them a request means."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mien import __version__
from mien.errors import NotFound, RequestError, Unavailable
from mien.inference.contract import Service, TaskInfo
from mien.nodes.proto.inference_pb2 import Capability, IOTask

PROTOCOL_VERSION = "1.0"
STREAM_SUFFIX = "_stream"
"""`TASK_stream` is TASK answered in parts as they come; plain TASK is answered with its whole result only."""
SERVICE_KEY = "service"
"""Key of the request's meta that names one of several services with the same task."""
SOURCE_KEY = "mien"
"""Key of a capability's `extra` by which our nodes recognise each other; its value is the version."""
ALL = "mien"
"""Service name of the one capability that older clients read."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a request goes to."""

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


def names(task: TaskInfo) -> tuple[str, ...]:
    """The task's own name and its aliases, each once."""
    return tuple(dict.fromkeys((task.name, *task.aliases)))


def capability(service: Service, *, runtime: str, max_concurrency: int, max_bytes: int) -> Capability:
    """One service, its tasks under all their names, each also with the suffix that asks for parts."""
    tasks = service.tasks()
    return Capability(
        service_name=service.name,
        model_ids=dict.fromkeys(task.model for task in tasks if task.model),
        runtime=runtime,
        max_concurrency=max_concurrency,
        precisions=["fp32"],
        extra={SOURCE_KEY: __version__},
        tasks=_io_tasks(tasks, max_bytes),
        protocol_version=PROTOCOL_VERSION,
    )


def combined(capabilities: Sequence[Capability]) -> Capability:
    """All services in one capability, each task name once: what clients see that only ask for one."""
    first = capabilities[0]
    if len(capabilities) == 1:
        return first
    tasks = {task.name: task for one in reversed(capabilities) for task in one.tasks}
    return Capability(
        service_name=ALL,
        model_ids=dict.fromkeys(model for one in capabilities for model in one.model_ids),
        runtime=first.runtime,
        max_concurrency=first.max_concurrency,
        precisions=first.precisions,
        extra=first.extra,
        tasks=reversed(tasks.values()),
        protocol_version=first.protocol_version,
    )


def _io_tasks(tasks: Iterable[TaskInfo], max_bytes: int) -> Iterator[IOTask]:
    seen: set[str] = set()
    for task in tasks:
        plain = names(task)
        for name in (*plain, *(f"{name}{STREAM_SUFFIX}" for name in plain if not name.endswith(STREAM_SUFFIX))):
            if name not in seen:
                seen.add(name)
                yield IOTask(
                    name=name,
                    input_mimes=task.input_mimes,
                    output_mimes=task.output_mimes,
                    limits={"max_payload_size": str(max_bytes), **task.limits},
                )


def task_infos(capability: Capability) -> tuple[TaskInfo, ...]:
    """The tasks of a node's service; `NAME_stream` is left out where there is `NAME`."""
    every = {task.name for task in capability.tasks}
    model = capability.model_ids[0] if len(capability.model_ids) == 1 else ""
    return tuple(
        TaskInfo(task.name, tuple(task.input_mimes), tuple(task.output_mimes), model, limits=dict(task.limits))
        for task in capability.tasks
        if not (task.name.endswith(STREAM_SUFFIX) and task.name.removesuffix(STREAM_SUFFIX) in every)
    )
