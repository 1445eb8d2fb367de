"""What a worker is to the pool, wherever it runs.

Implementations pass tests/integration/workers/test_worker_contract.py; today's is `mien.workers.local_process`.
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
    """What a worker is started from."""

    name: str
    environment: Environment
    content: Path
    """The version's files; the worker gets a copy of its own."""
    folder: Path
    """Where the worker's files are while it lives; made and removed by it."""
    limits: ProcessLimits
    variables: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 120.0
    setup_seconds: float = 1800.0
    family: int | None = None
    """A file descriptor that stays open until no process of the worker is left."""
    fetch_private: bool = False
    """Whether files that callers name by URL may come from private addresses."""
    marker: str = field(default_factory=lambda: f"$file:{secrets.token_hex(16)}")
    """The key of local files in its outputs; see `infsh._kernel.protocol.Setup`."""

    def files_of(self, run_id: str) -> Path:
        """The folder for the files that a run is given: the only paths that its input may name as files."""
        return self.folder / "files" / run_id


class Worker(Protocol):
    """A running instance of an app, its import done. Every method is called from one event loop."""

    spec: WorkerSpec
    concurrency: int
    """Runs that the app takes at once; the worker queues what comes beyond that."""
    gone: asyncio.Event
    """Set once no process of it is left and its files are removed: from then on its room can be given away, and what
    it was doing can be started again elsewhere."""
    why: WorkerGone | None
    """How it ended; set before `gone`."""

    @property
    def pid(self) -> int | None:
        """The process that runs the app."""

    @property
    def ended(self) -> bool:
        """Whether its processes are dead; `gone` follows when its files are removed, too."""

    async def setup(self, setup: Any, metadata: dict[str, Any], listener: Listener) -> float:
        """Run the app's setup, once, and return its seconds. Raises AppError, WorkerGone."""

    async def run(
        self, run_id: str, function: str | None, given: Encoded, metadata: dict[str, Any], listener: Listener
    ) -> Any:
        """Run a function and return its output, with its files marked. Raises AppError, RunCancelled, WorkerGone.

        WorkerGone is raised after `gone` is set, never before.
        """

    def cancel(self, run_id: str, grace: float) -> None:
        """Ask the app to end the run; when `grace` seconds are over, end the process. At once if `grace` is 0. A run
        that has ended is left alone, and with it the worker, which may have the next one already."""

    def kill(self) -> None:
        """End every process of the worker, now. Returns at once; `gone` tells when it is done."""

    async def kill_and_wait(self) -> None:
        """Kill it and return when nothing of it is left, however often the caller is cancelled meanwhile."""

    async def unload(self, seconds: float) -> None:
        """Let the app unload itself, for at most that long, then kill it. Returns when nothing is left."""


StartWorker = Callable[[WorkerSpec, Listener], Awaitable[Worker]]
"""Starts a worker and imports its app. Raises AppError, WorkerGone; leaves nothing behind then."""
