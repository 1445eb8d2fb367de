"""Placement: whether there is capacity for a worker. The extension point for more than one machine."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mien.apps.process import GIB
from mien.machine import usable_memory
from mien.settings import Workers

SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True, slots=True)
class Need:
    """The resources of one worker."""

    memory: int
    """Bytes; also its memory limit."""
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """The resources claimed for one worker."""

    need: Need
    gpu_ids: tuple[int, ...] = ()


class Placement(Protocol):
    """Keeps track of claimed resources. No method blocks."""

    def lacks(self, need: Need) -> str | None:
        """Why the need exceeds the machine's total resources; None if it does not."""

    def fits(self, need: Need, freed: Iterable[Grant] = ()) -> bool:
        """Whether the need can be claimed now, or could be without the grants in `freed`."""

    def claim(self, need: Need) -> Grant:
        """Claim resources; call only if `fits` returned True."""

    def release(self, grant: Grant) -> None:
        """Return claimed resources."""


class LocalPlacement:
    """This machine: limits the number of workers and the sum of their memory limits; GPUs are not shared."""

    def __init__(self, *, workers: int, memory: int, gpus: int) -> None:
        self._workers = workers
        self._memory = memory
        self._gpus = gpus
        self._grants: list[Grant] = []

    @classmethod
    def from_settings(cls, workers: Workers) -> "LocalPlacement":
        memory = workers.workers_memory or int(usable_memory() * SHARE_OF_MEMORY)
        gpus = visible_gpus() if workers.app_gpus is None else workers.app_gpus
        return cls(workers=workers.app_workers, memory=memory, gpus=gpus)

    def lacks(self, need: Need) -> str | None:
        if need.memory > self._memory:
            return f"the app needs {need.memory / GIB:.1f} GiB; workers may use {self._memory / GIB:.1f} GiB here"
        if need.gpus > self._gpus:
            return f"the app needs {need.gpus} GPUs; this server has {self._gpus}"
        return None

    def fits(self, need: Need, freed: Iterable[Grant] = ()) -> bool:
        gone = list(freed)
        workers = len(self._grants) - len(gone)
        memory = sum(grant.need.memory for grant in self._grants) - sum(grant.need.memory for grant in gone)
        gpus = sum(grant.need.gpus for grant in self._grants) - sum(grant.need.gpus for grant in gone)
        return workers < self._workers and memory + need.memory <= self._memory and gpus + need.gpus <= self._gpus

    def claim(self, need: Need) -> Grant:
        taken = {gpu for grant in self._grants for gpu in grant.gpu_ids}
        free = [gpu for gpu in range(self._gpus) if gpu not in taken]
        grant = Grant(need, tuple(free[: need.gpus]))
        self._grants.append(grant)
        return grant

    def release(self, grant: Grant) -> None:
        # By identity: two workers of one app have equal grants.
        del self._grants[next(index for index, taken in enumerate(self._grants) if taken is grant)]


def visible_gpus() -> int:
    """Number of usable GPUs: from CUDA_VISIBLE_DEVICES, else from NVIDIA's device files."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return len([part for part in given.split(",") if part.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])


def gpu_variables(grant: Grant) -> dict[str, str]:
    """Environment variables that make only the granted GPUs visible to a worker."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [part.strip() for part in given.split(",")] if given else None
    chosen = [names[gpu] if names and gpu < len(names) else str(gpu) for gpu in grant.gpu_ids]
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen) or "-1"}
