"""The known services, by name and by task."""

from collections.abc import Iterator, Sequence

from mien.errors import NotFound
from mien.inference.contract import Service, TaskInfo


def _key(name: str) -> str:
    return name.strip().lower()


def task_of(service: Service, name: str) -> TaskInfo:
    """The service's task with that name or alias; for an empty name, its default task.

    Raises NotFound listing the service's tasks.
    """
    tasks: Sequence[TaskInfo] = service.tasks()
    if not tasks:
        raise NotFound(f"the service {service.name} has no task at the moment")
    if not _key(name):
        return tasks[0]
    for names in (_own_name, _all_names):
        for info in tasks:
            if _key(name) in names(info):
                return info
    listed = "; ".join(" = ".join((info.name, *info.aliases)) for info in tasks)
    raise NotFound(f"{service.name} has no task called {name.strip()[:80]!r}; there are: {listed}")


def _own_name(info: TaskInfo) -> tuple[str, ...]:
    return (_key(info.name),)


def _all_names(info: TaskInfo) -> tuple[str, ...]:
    return (_key(info.name), *(_key(alias) for alias in info.aliases))


class ServiceRegistry:
    """Local and remote services. If both have a name or a task, the local one takes precedence.

    Used on the event loop only.
    """

    def __init__(self, *, prefer_remote: bool = False) -> None:
        """`prefer_remote`: remote services take precedence."""
        self.prefer_remote = prefer_remote
        self._local: dict[str, Service] = {}
        self._remote: dict[str, Service] = {}

    def add(self, service: Service, *, remote: bool = False) -> None:
        """Add a service; it replaces a local or remote one, respectively, of the same name."""
        (self._remote if remote else self._local)[_key(service.name)] = service

    def remove(self, name: str, *, remote: bool = False) -> None:
        """Remove a service, if it is there."""
        (self._remote if remote else self._local).pop(_key(name), None)

    def local(self) -> list[Service]:
        """This server's own services, in the order in which they were added."""
        return list(self._local.values())

    def services(self) -> list[Service]:
        """Every service that `resolve` can return, sorted by name."""
        first, second = self._in_order()
        return [service for _, service in sorted({**second, **first}.items())]

    def resolve(self, name: str) -> Service:
        """The service called `name`; case and surrounding whitespace are ignored. Raises NotFound listing all."""
        for known in self._in_order():
            if (service := known.get(_key(name))) is not None:
                return service
        listed = ", ".join(service.name for service in self.services()) or "none"
        raise NotFound(f"no service is called {name.strip()[:80]!r}; there are: {listed}")

    def for_task(self, task: str) -> tuple[Service, TaskInfo]:
        """The service with a task of that name or alias, and the task. Raises NotFound listing all tasks."""
        for known in self._in_order():
            offered = [(service, info) for service in known.values() for info in service.tasks()]
            for names in (_own_name, _all_names):  # a task's own name takes precedence over another service's alias
                for service, info in offered:
                    if _key(task) in names(info):
                        return service, info
        listed = ", ".join(info.name for service in self.services() for info in service.tasks()) or "none"
        raise NotFound(f"no service has a task called {task.strip()[:80]!r}; there are: {listed}")

    task_of = staticmethod(task_of)

    def _in_order(self) -> Iterator[dict[str, Service]]:
        yield from (self._remote, self._local) if self.prefer_remote else (self._local, self._remote)
