"""The known services, by name and by task."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from mien.errors import NotFound
from mien.inference.contract import Service, TaskInfo

_EMBEDDING, _CLASSIFICATION, _OCR = "embedding", "classification", "ocr"
_FACES = ("face_recognition", "face_detection")
FORMER_NAMES = {
    "clip": (_EMBEDDING, _CLASSIFICATION),
    "smartclip": (_EMBEDDING, _CLASSIFICATION),
    "siglip": (_EMBEDDING,),
    "bioclip": (_CLASSIFICATION, _EMBEDDING),
    "face": _FACES,
    "face-general": _FACES,
    "insightface": _FACES,
    "ppocr": (_OCR,),
}
"""Names that services have on other nodes of this protocol, and what they are here. All may begin with `lumen_`."""
FORMER_PREFIX = "lumen_"


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
    if (found := _find([[service]], name)) is not None:
        return found[1]
    raise NotFound(f"{service.name} has no task called {_shown(name)}; there are: {_listed(service)}")


def _listed(service: Service) -> str:
    return "; ".join(" = ".join((info.name, *info.aliases)) for info in service.tasks())


Tiers: TypeAlias = Sequence[Sequence[Service]]
"""Services in order of preference: whatever one tier has is not looked for in the next."""


def pick(tiers: Tiers, name: str, task: str, *, is_hint: bool = False) -> tuple[Service, TaskInfo]:
    """The service called `name` that has the task, both in any case; either may be empty.

    `is_hint`: a name that nothing has does not matter if the task is known. Raises NotFound, which says what there is.
    """
    known = [service for tier in tiers for service in tier]
    named = _called(tiers, name) if _key(name) else tiers
    if is_hint and _key(task) and not any(named):
        named, name = tiers, ""
    if _key(name) and not any(named):
        raise NotFound(f"no service is called {_shown(name)}; there are: {_names(known)}")
    if _key(name) and not _key(task):
        service = next(service for tier in named for service in tier)
        return service, task_of(service, "")
    if (found := _find(named, task)) is not None:
        return found
    if not _key(name):
        offered = sorted(known, key=lambda service: service.name)
        listed = ", ".join(dict.fromkeys(info.name for service in offered for info in service.tasks())) or "none"
        raise NotFound(f"no service has a task called {_shown(task)}; there are: {listed}")
    asked = next(service for tier in named for service in tier)
    if (other := _find(tiers, task)) is not None:
        where = f"the service {other[0].name} has it"
        raise NotFound(f"{asked.name} has no task called {_shown(task)}, {where}; there are: {_listed(asked)}")
    return asked, task_of(asked, task)  # raises


def _called(tiers: Tiers, name: str) -> Tiers:
    """The services of that name, before those that are the same under another name."""
    wanted = _key(name)
    here = _names_here(wanted)
    return [
        *([service for service in tier if _key(service.name) == wanted] for tier in tiers),
        *([service for known in here for service in tier if _key(service.name) == known] for tier in tiers),
        *([service for service in tier if wanted in _names_here(_key(service.name))] for tier in tiers),
    ]


def _names_here(name: str) -> tuple[str, ...]:
    """What a service that other nodes call `name` is called here; empty for other names."""
    plain = name.removeprefix(FORMER_PREFIX)
    return FORMER_NAMES.get(plain) or ((plain,) if plain != name else ())


def _find(tiers: Tiers, task: str) -> tuple[Service, TaskInfo] | None:
    """The first service with a task of that name; in a tier, a task's own name precedes another's alias."""
    wanted = _key(task)
    for tier in tiers:
        offered = [(service, info) for service in tier for info in service.tasks()]
        for names in (_own_name, _all_names):
            for service, info in offered:
                if wanted in names(info):
                    return service, info
    return None


def _own_name(info: TaskInfo) -> tuple[str, ...]:
    return (_key(info.name),)


def _all_names(info: TaskInfo) -> tuple[str, ...]:
    return (_key(info.name), *(_key(alias) for alias in info.aliases))


def _shown(name: str) -> str:
    return repr(name.strip()[:80])


def _names(services: Iterable[Service]) -> str:
    return ", ".join(sorted({service.name for service in services})) or "none"


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
        raise NotFound(f"no service is called {_shown(name)}; there are: {_names(self.services())}")

    def pick(self, name: str, task: str, *, is_hint: bool = False) -> tuple[Service, TaskInfo]:
        """As `pick` among all services."""
        return pick([list(known.values()) for known in self._in_order()], name, task, is_hint=is_hint)

    def for_task(self, task: str) -> tuple[Service, TaskInfo]:
        """The service with a task of that name or alias, and the task. Raises NotFound listing all tasks."""
        return self.pick("", task)

    task_of = staticmethod(task_of)

    def _in_order(self) -> Iterator[dict[str, Service]]:
        yield from (self._remote, self._local) if self.prefer_remote else (self._local, self._remote)
