"""Processes that run untrusted code: monitored, limited, and killed with all their descendants."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

GUARDIAN = Path(__file__).with_name("guardian.py")
WATCH_SECONDS = 0.1
GIB = 1024**3
SECRET_PREFIXES = ("MIEN_",)


Reason = Literal["", "requested", "orphaned", "memory", "processes"]


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Limits for a process and its descendants together."""

    memory: int
    """Resident memory in bytes."""
    processes: int = 512


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    status: int | None
    """Exit code, or the negated signal number; None if unknown."""
    reason: Reason = ""
    """Why the process and its descendants were killed, if they were."""
    peak: int = 0
    """Highest observed resident memory in bytes."""
    limits: ProcessLimits | None = None

    @property
    def ok(self) -> bool:
        """Whether the process exited by itself with status 0."""
        return self.status == 0 and not self.reason

    def describe(self) -> str:
        """How the process ended, as a predicate: `exited with status 1`."""
        if self.reason == "memory" and self.limits:
            return f"ran out of memory: it exceeded its limit of {self.limits.memory / GIB:.2f} GiB"
        if self.reason == "processes" and self.limits:
            return f"was killed: it started more than {self.limits.processes} processes"
        if self.reason:
            return "was stopped"
        return describe_status(self.status)


class _Report(msgspec.Struct):
    pid: int | None = None
    status: int | None = None
    reason: Reason = ""
    peak: int = 0


def describe_status(status: int | None) -> str:
    """An exit status, or negated signal number, as a predicate: `was killed by SIGSEGV (a crash in native code)`."""
    if status is None:
        return "ended in an unknown way"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hints = {
        "SIGKILL": " (often because the machine ran out of memory)",
        "SIGSEGV": " (a crash in native code)",
        "SIGABRT": " (a crash in native code)",
        "SIGBUS": " (a crash in native code)",
        "SIGILL": " (native code for another CPU)",
    }
    return f"was killed by {name}{hints.get(name, '')}"


class GuardedProcess:
    """A process under a guardian: it ends with this server, stays within its limits, and leaves no children behind."""

    def __init__(
        self,
        guardian: asyncio.subprocess.Process,
        reports: asyncio.StreamReader,
        connection: asyncio.StreamWriter,
        limits: ProcessLimits,
    ) -> None:
        self._guardian = guardian
        self._reports = reports
        self._connection = connection
        self._limits = limits
        self._exit = asyncio.ensure_future(self._follow())
        assert guardian.stdout is not None  # noqa: S101 - `start` passes PIPE
        assert guardian.stderr is not None  # noqa: S101
        self.stdout = guardian.stdout
        self.stderr = guardian.stderr
        self.pid: int | None = None

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        limits: ProcessLimits,
        merge: bool = False,
        hold: Sequence[int] = (),
    ) -> "GuardedProcess":
        """Start `command` (its first element a path) in `folder`, with exactly this environment.

        `merge`: redirect stderr to stdout. `hold`: descriptors to keep open until no descendant is left.
        """
        # No pipe: uvloop closes one twice, and in between another thread may have opened a file under the same number.
        ours, theirs = socket.socketpair()
        with theirs:
            reports, connection = await asyncio.open_connection(sock=ours)
            try:
                guardian = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    "-S",
                    str(GUARDIAN),
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=(theirs.fileno(), *hold),
                    env={"LC_ALL": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                    limit=1024 * 1024,
                )
            except BaseException:
                connection.close()
                raise
        config = {
            "command": list(command),
            "environment": dict(environment),
            "folder": str(folder),
            "memory": limits.memory,
            "processes": limits.processes,
            "interval": WATCH_SECONDS,
            "merge": merge,
        }
        process = cls(guardian, reports, connection, limits)
        assert guardian.stdin is not None  # noqa: S101 - PIPE, above
        guardian.stdin.write(msgspec.json.encode(config) + b"\n")
        return process

    def kill(self) -> None:
        """Kill the process and all its descendants. Does not wait; `wait` does."""
        stdin = self._guardian.stdin
        if self._guardian.returncode is None and stdin is not None and not stdin.is_closing():
            stdin.write(b"x")

    async def wait(self) -> Exit:
        """Wait until no descendant is left; returns how the process ended."""
        return await asyncio.shield(self._exit)

    @property
    def ended(self) -> bool:
        """Whether `wait` would return immediately."""
        return self._exit.done()

    async def _follow(self) -> Exit:
        last = _Report()
        while line := await self._reports.readline():
            last = msgspec.json.decode(line, type=_Report)
            self.pid = last.pid or self.pid
        self._connection.close()
        await self._guardian.wait()
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        status = None if last.status is None else os.waitstatus_to_exitcode(last.status)
        return Exit(status, last.reason, last.peak, self._limits)


def clean_environment(home: Path, path: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of an app: `extra`, and of this process's own those for locale, proxies and devices.

    The server's own settings, which may be secrets, are never passed.
    """
    kept = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    folders = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PATH": path}
    given = {name: value for name, value in extra.items() if not name.startswith(SECRET_PREFIXES)}
    return {**kept, **folders, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **given}


_PASSED = frozenset(
    {
        "LANG",
        "TZ",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "LD_LIBRARY_PATH",
        "ORT_DISABLE_TELEMETRY",
    }
)
_PASSED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "ROCM_", "HIP_", "OMP_", "MKL_", "OPENBLAS_")
