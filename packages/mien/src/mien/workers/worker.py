"""The interface of a worker, wherever it runs.

Implementations must pass tests/integration/workers/test_worker_contract.py; `mien.workers.local_process` is the only
one so far.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mien.apps.environment import Environment
from mien.apps.process import ProcessLimits
from mien.encoded import Encoded
from mien.workers.listener import Listener, WorkerGone


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything needed to start a worker."""

    name: str
    environment: Environment
    content: Path
    """The version's files; the worker works on a copy."""
    folder: Path
    """The worker's directory; it creates and removes it."""
    limits: ProcessLimits
    variables: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 120.0
    setup_seconds: float = 1800.0
    family: int | None = None
    """A file descriptor that the worker's processes inherit; see `run_dir`."""
    marker: str = field(default_factory=lambda: f"$file:{secrets.token_hex(16)}")
    """The key of local files in its outputs; see `infsh._kernel.protocol.Setup`."""

    input_dirs: tuple[Path, ...] = ()
    """Directories whose files clients may name by path."""

    def files_of(self, run_id: str | None) -> Path:
        """The directory for the input files of a run, or (None) of the setup; neither may refer to files elsewhere."""
        return self.folder / "files" / (run_id or "setup")


class Worker(Protocol):
    """A process in which the app has been imported. All methods are called on one event loop."""

    spec: WorkerSpec
    concurrency: int
    """Number of runs that the app handles concurrently; the worker queues any beyond that."""
    gone: asyncio.Event
    """Set once all its processes have ended and its files are removed. Only then may its resources be claimed again and
    its tasks be started elsewhere."""
    why: WorkerGone | None
    """Why it ended; set before `gone`."""

    @property
    def pid(self) -> int | None:
        """The process that runs the app."""

    @property
    def ended(self) -> bool:
        """Whether its processes are dead; `gone` follows once its files are removed."""

    async def setup(self, setup: Any, metadata: dict[str, Any], listener: Listener) -> float:
        """Run the app's setup; call once. Returns the seconds it took. Raises AppError, WorkerGone."""

    async def run(
        self, run_id: str, function: str | None, given: Encoded, metadata: dict[str, Any], listener: Listener
    ) -> Any:
        """Run a function and return its output, in which files are marked with `spec.marker`.

        Raises AppError, RunCancelled, WorkerGone; the latter only after `gone` is set.
        """

    def cancel(self, run_id: str, grace: float) -> None:
        """Ask the app to end the run; end the process after `grace` seconds, or immediately if `grace` is 0. No effect
        if the run has ended: the worker may already be busy with the next one."""

    def kill(self) -> None:
        """Kill every process of the worker. Does not wait; `gone` is set when done."""

    async def kill_and_wait(self) -> None:
        """Kill the worker and wait until it is gone, even if the caller is cancelled meanwhile."""

    async def unload(self, seconds: float) -> None:
        """Let the app unload for at most `seconds`, then kill the worker. Waits until it is gone."""


StartWorker = Callable[[WorkerSpec, Listener], Awaitable[Worker]]
"""Starts a worker and imports its app. Raises AppError, WorkerGone, MienError, after cleaning up."""
