"""The process between the server and a worker or a build: starts it, enforces its limits, kills all its processes.

Run as a script, `python -I -S guardian.py STATUS`, without importing anything of Mien or of an app; standard library
only. It works whatever the app does:

- File descriptor 0 is a pipe whose other end only the server holds. A byte on it means: kill the worker now. End of
  file means that the server died. In both cases every process of the worker is killed, including those that moved to
  sessions of their own: when their parents die, they become children of this process (on Linux, a child subreaper),
  which keeps killing until none is left.
- It writes one line of JSON to the descriptor STATUS when the worker has started, and one when it has ended: exit
  status, peak memory, reason.

Why it is separate from the kernel's relay, which sits between the same two processes: the relay is the app's own
interpreter before its fork, in the app's environment and under the worker's limits. It forwards messages and output to
any supervisor that speaks the documented protocol, and dies with the worker. The guardian must outlive the worker to
kill it, must not run the app's packages, and also guards builds and imports, which have no messages.
"""

# It must start fast (hence no pathlib, no contextlib) and keep running whatever happens.
# ruff: noqa: PTH123, PTH208, SIM105, BLE001, S606, TRY300

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing takes as long as everything else here
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_SECONDS = 10.0
PAGE = os.sysconf("SC_PAGE_SIZE")
STATUS = int(sys.argv[1])
LINUX = sys.platform == "linux"


def prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def report(**fields: object) -> None:
    try:
        os.write(STATUS, json.dumps(fields).encode() + b"\n")
    except OSError:
        pass  # the server has died


def start(config: dict[str, Any]) -> int:
    """Fork the worker into a session of its own and return its process id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        # If the guardian itself is killed, the worker is killed, too. If that happened before prctl, no signal will
        # come, but then the parent process has already changed.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        if config["merge"]:
            os.dup2(1, 2)
        os.closerange(3, 256)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit_processes(config["processes"])
        if LINUX:
            with open("/proc/self/oom_score_adj", "w") as score:
                score.write("500")  # the OOM killer should choose a worker, not the server
        os.chdir(config["folder"])
        os.execve(config["command"][0], config["command"], config["environment"])
    except BaseException as error:
        os.write(2, f"the worker could not be started: {error}\n".encode())
    finally:
        os._exit(127)


def limit_processes(more: int) -> None:
    """Limit the user's processes and threads to the current number and `more`. Stops fork bombs, unless run by root."""
    if not LINUX:
        return
    now = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == os.getuid():
                    now += len(os.listdir(f"/proc/{entry.name}/task"))
            except OSError:
                pass
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = now + 8 * more  # RLIMIT_NPROC also counts threads
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_NPROC, (wanted, hard))


def children(pid: int) -> list[int]:
    try:
        found = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as listing:
                found += [int(word) for word in listing.read().split()]
        return found
    except (OSError, ValueError):
        return []


def descendants() -> list[int]:
    """Every descendant of this process, parents first."""
    found, look = [], children(os.getpid())
    while look:
        pid = look.pop()
        if pid not in found:
            found.append(pid)
            look += children(pid)
    return found


def memory(members: list[int], worker: int) -> int:
    """Memory use in bytes: the worker's resident memory, and the unshared resident memory of its descendants."""
    total = 0
    for pid in members:
        try:
            with open(f"/proc/{pid}/statm") as statm:
                _, resident, shared = [int(word) for word in statm.read().split()[:3]]
        except (OSError, ValueError):
            continue
        total += resident if pid == worker else resident - shared
    return total * PAGE


def reap(worker: int, status: int | None) -> tuple[int | None, bool]:
    """Reap ended children; returns the worker's wait status, if known, and whether any child is left."""
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, False
        if pid == 0:
            return status, True
        if pid == worker:
            status = ended


def raise_scheduling_priority() -> None:
    """Take precedence over the processes to be killed, where permitted: at equal priority, a fork bomb may fork faster
    than this process kills."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, OSError):
        pass


def kill_all(worker: int, status: int | None) -> int | None:
    """Kill all descendants until none is left. Returns the worker's wait status.

    In a loop, since a process may fork between being listed and being killed.
    """
    deadline = time.monotonic() + KILL_SECONDS
    left = True
    raise_scheduling_priority()
    while left and time.monotonic() < deadline:
        try:
            os.killpg(worker, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        for pid in descendants():  # also those in sessions of their own, which killpg does not reach
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        status, left = reap(worker, status)
        if left:
            time.sleep(0.002)
            status, left = reap(worker, status)
    return status


def read_config() -> dict[str, Any]:
    """The first line on the pipe. Not an argument, since those are visible to others and it may contain secrets."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)  # the server died before sending it
        line += byte
    config: dict[str, Any] = json.loads(line)
    return config


def guard(config: dict[str, Any]) -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # only the pipe ends the worker
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.set_inheritable(STATUS, False)

    worker = start(config)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)  # otherwise the server would see the end of the worker's output only when the guardian ends
    report(pid=worker)

    status, reason, peak = None, "", 0
    while status is None and not reason:
        ready, _, _ = select.select([0, wake], [], [], config["interval"])
        if wake in ready:
            os.read(wake, 4096)
        if ready:
            status, _ = reap(worker, None)
        if 0 in ready and status is None:  # else it ended by itself just before, and that is reported
            reason = "requested" if os.read(0, 1) else "orphaned"
        if LINUX and status is None and not reason:
            members = descendants()
            used = memory(members, worker)
            peak = max(peak, used)
            if used > config["memory"]:
                reason = "memory"
            elif len(members) > config["processes"]:
                reason = "processes"
    status = kill_all(worker, status)
    report(status=status, reason=reason, peak=peak)


if __name__ == "__main__":
    guard(read_config())
