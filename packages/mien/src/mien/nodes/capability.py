"""What one service of a node can do: as a value, and as the protocol's message."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mien import __version__
from mien.inference.contract import Service, TaskInfo
from mien.nodes.contract import PROTOCOL_VERSION, SOURCE_KEY, STREAM_SUFFIX
from mien.nodes.proto import inference_pb2 as pb

RUNTIME = "onnxruntime"
ALL = "mien"
"""Service name of the one capability that older clients read."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One service of a node, this server or another one."""

    service_name: str
    model_ids: tuple[str, ...]
    runtime: str
    max_concurrency: int
    precisions: tuple[str, ...]
    extra: Mapping[str, str]
    tasks: tuple[TaskInfo, ...]
    """Of this server with their aliases; of another node with all names as tasks of their own."""
    protocol_version: str


def capability_of(service: Service, max_concurrency: int) -> Capability:
    """What a service of this server can do."""
    tasks = tuple(service.tasks())
    return Capability(
        service_name=service.name,
        model_ids=tuple(dict.fromkeys(task.model for task in tasks if task.model)),
        runtime=RUNTIME,
        max_concurrency=max_concurrency,
        precisions=("fp32",),
        extra={SOURCE_KEY: __version__},
        tasks=tasks,
        protocol_version=PROTOCOL_VERSION,
    )


def names(task: TaskInfo) -> tuple[str, ...]:
    """The task's own name and its aliases, each once."""
    return tuple(dict.fromkeys((task.name, *task.aliases)))


# --- the message


def to_message(capability: Capability, max_bytes: int) -> pb.Capability:
    """The message: tasks under all their names, each also with the suffix that asks for a stream.

    `max_bytes`: the largest payload that this node takes.
    """
    return pb.Capability(
        service_name=capability.service_name,
        model_ids=capability.model_ids,
        runtime=capability.runtime,
        max_concurrency=capability.max_concurrency,
        precisions=capability.precisions,
        extra=capability.extra,
        tasks=_io_tasks(capability.tasks, max_bytes),
        protocol_version=capability.protocol_version,
    )


def from_message(message: pb.Capability) -> Capability:
    """What the service of another node can do. `NAME_stream` is left out of the tasks where there is `NAME`."""
    return Capability(
        service_name=message.service_name,
        model_ids=tuple(message.model_ids),
        runtime=message.runtime,
        max_concurrency=message.max_concurrency,
        precisions=tuple(message.precisions),
        extra=dict(message.extra),
        tasks=task_infos(message),
        protocol_version=message.protocol_version,
    )


def task_infos(message: pb.Capability) -> tuple[TaskInfo, ...]:
    """The tasks of another node's service; `NAME_stream` is left out where there is `NAME`."""
    every = {task.name for task in message.tasks}
    model = message.model_ids[0] if len(message.model_ids) == 1 else ""
    return tuple(
        TaskInfo(task.name, tuple(task.input_mimes), tuple(task.output_mimes), model, limits=dict(task.limits))
        for task in message.tasks
        if not (task.name.endswith(STREAM_SUFFIX) and task.name.removesuffix(STREAM_SUFFIX) in every)
    )


def combined(messages: Sequence[pb.Capability]) -> pb.Capability:
    """All services in one capability, each task name once: what clients see that ask for one only."""
    first = messages[0]
    if len(messages) == 1:
        return first
    tasks = {task.name: task for one in reversed(messages) for task in one.tasks}
    return pb.Capability(
        service_name=ALL,
        model_ids=dict.fromkeys(model for one in messages for model in one.model_ids),
        runtime=first.runtime,
        max_concurrency=first.max_concurrency,
        precisions=first.precisions,
        extra=first.extra,
        tasks=reversed(tasks.values()),
        protocol_version=first.protocol_version,
    )


def _io_tasks(tasks: Iterable[TaskInfo], max_bytes: int) -> Iterator[pb.IOTask]:
    seen: set[str] = set()
    for task in tasks:
        plain = names(task)
        for name in (*plain, *(f"{name}{STREAM_SUFFIX}" for name in plain if not name.endswith(STREAM_SUFFIX))):
            if name not in seen:
                seen.add(name)
                yield pb.IOTask(
                    name=name,
                    input_mimes=task.input_mimes,
                    output_mimes=task.output_mimes,
                    limits={"max_payload_size": str(max_bytes), **task.limits},
                )
