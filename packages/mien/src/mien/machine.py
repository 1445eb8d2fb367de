"""What this machine, or the container or service that this process runs in, lets it use: cores and memory.

Linux limits both by control groups, in two versions that a machine may use side by side. A limit of any enclosing group
counts, whether or not the process sees that group by its full path (a container usually does not).
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Number of cores that this process can keep busy: at most those of its affinity, and its CPU quota, rounded up.

    `root`: the folder that holds `proc`, for tests.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _limits(root, "cpu", _cpu_quota))]))


def usable_memory(root: Path = _ROOT) -> int:
    """Memory in bytes of this machine, or of the control group with the lowest limit."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min([total, *_limits(root, "memory", _memory_limit)]))


def _limits(root: Path, controller: str, read: Callable[[Path], float]) -> Iterator[float]:
    """The limit of each of this process's groups that has one."""
    for folder in _groups(root, controller):
        try:
            limit = read(folder)
        except (OSError, ValueError, IndexError):  # none: no such file, `max`, or -1
            continue
        if limit > 0:
            yield limit


def _cpu_quota(group: Path) -> float:
    """In cores."""
    if (group / "cpu.max").exists():
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota) / max(1, int(period))


def _memory_limit(group: Path) -> float:
    """In bytes."""
    name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
    return int((group / name).read_text())


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups for a controller, each followed by those that enclose it."""
    paths = dict(_paths(root, controller))
    for version, shown, mounted in _mounts(root, controller):
        if version not in paths:
            continue
        # A mount may show only a part of the hierarchy. If the process is not in that part, as its path says, then the
        # path is one of another namespace, and the part is what this container was given.
        path = PurePosixPath(paths[version])
        inside = path.is_relative_to(shown) and ".." not in path.parts
        below = path.relative_to(shown) if inside else PurePosixPath()
        top = root / mounted.lstrip("/")
        group = top / below
        yield group
        while group != top:
            group = group.parent
            yield group


def _paths(root: Path, controller: str) -> Iterator[tuple[str, str]]:
    """This process's group in each version of the hierarchy that may have the controller: `cgroup` (1) or `cgroup2`."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield "cgroup2", path
        elif controller in controllers.split(","):
            yield "cgroup", path


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str, str]]:
    """Version, the part of the hierarchy that is shown, and where."""
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, file_system = line.partition(" - ")
        fields, (version, _, options) = mount.split(), file_system.split()[:3]
        if version == "cgroup2" or (version == "cgroup" and controller in options.split(",")):
            yield version, _unescaped(fields[3]), _unescaped(fields[4])


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # not Linux
        return []
