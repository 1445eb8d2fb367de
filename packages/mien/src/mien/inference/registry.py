"""The services that exist, by name and by task."""

from collections.abc import Iterator, Sequence

from mien.errors import NotFound
from mien.inference.contract import Service, TaskInfo


def _key(name: str) -> str:
    return name.strip().lower()


def task_of(service: Service, name: str) -> TaskInfo:
    """The service's task of that name or alias; its default for an empty name. Raises NotFound that lists its tasks."""
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
    """Local and remote services. Of two with one name or one task, the local one answers.

    Changed and read on the event loop only.
    """

    def __init__(self, *, prefer_remote: bool = False) -> None:
        """`prefer_remote` turns the preference around."""
        self.prefer_remote = prefer_remote
        self._local: dict[str, Service] = {}
        self._remote: dict[str, Service] = {}

    def add(self, service: Service, *, remote: bool = False) -> None:
        """Make a service known; it replaces one of the same name and kind."""
        (self._remote if remote else self._local)[_key(service.name)] = service

    def remove(self, name: str, *, remote: bool = False) -> None:
        """Forget a service; nothing happens if it is not there."""
        (self._remote if remote else self._local).pop(_key(name), None)

    def local(self) -> list[Service]:
        """The services of this server itself, in the order in which they were added."""
        return list(self._local.values())

    def services(self) -> list[Service]:
        """Every service that can be resolved, sorted by name."""
        first, second = self._in_order()
        return [service for _, service in sorted({**second, **first}.items())]

    def resolve(self, name: str) -> Service:
        """The service called `name`, whatever its case and the blanks around it. Raises NotFound that lists all."""
        for known in self._in_order():
            if (service := known.get(_key(name))) is not None:
                return service
        listed = ", ".join(service.name for service in self.services()) or "none"
        raise NotFound(f"no service is called {name.strip()[:80]!r}; there are: {listed}")

    def for_task(self, task: str) -> tuple[Service, TaskInfo]:
        """The service that has `task`, by name or alias, and what it says of it. Raises NotFound that lists all."""
        for known in self._in_order():
            offered = [(service, info) for service in known.values() for info in service.tasks()]
            for names in (_own_name, _all_names):  # a task's own name wins over another service's alias
                for service, info in offered:
                    if _key(task) in names(info):
                        return service, info
        listed = ", ".join(info.name for service in self.services() for info in service.tasks()) or "none"
        raise NotFound(f"no service has a task called {task.strip()[:80]!r}; there are: {listed}")

    task_of = staticmethod(task_of)

    def _in_order(self) -> Iterator[dict[str, Service]]:
        yield from (self._remote, self._local) if self.prefer_remote else (self._local, self._remote)
