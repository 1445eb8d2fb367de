"""The process between the server and one worker, or one build: it starts it, watches it, and kills all of it.

Run as a script by `python -I -S guardian.py STATUS`, before anything of Mien or of an app is imported; standard library
only. It keeps the server's promises whatever the app does:

- File descriptor 0 is a pipe whose other end only the server holds. A byte on it means: end the worker now. Its
  end means that the server died. In both cases every process of the worker is killed, also those that moved into
  sessions of their own: when their parents die they become children of this process (Linux: a child subreaper), which
  kills until none is left.
- The descriptor STATUS takes one line of JSON for the start and one for the end: exit status, memory, the reason.

It is not one with the kernel's relay, which stands between the same two sides. That one is the app's own interpreter
before its fork, in the app's environment and under the worker's limits; it carries messages and output, for any
supervisor of the documented protocol, and dies with the worker. This one must outlive the worker to kill it, must not
run the app's packages, and guards builds and imports, too, which have no messages.
"""

# It has to start fast (no pathlib, no contextlib) and to go on whatever happens.
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

TYPE_CHECKING = False  # importing typing costs as much as all else here
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
        pass  # the server is gone


def start(config: dict[str, Any]) -> int:
    """Fork the worker into a session of its own and return its process id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        # Should the guardian itself be killed, the worker dies too. If that happened before prctl,
        # no signal will come: then the parent is another one already.
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
                score.write("500")  # when the machine runs out of memory, rather a worker than the server
        os.chdir(config["folder"])
        os.execve(config["command"][0], config["command"], config["environment"])
    except BaseException as error:
        os.write(2, f"the worker could not be started: {error}\n".encode())
    finally:
        os._exit(127)


def limit_processes(more: int) -> None:
    """Hold the user to as many processes and threads as now and `more`: stops fork bombs, except for root's."""
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
    wanted = now + 8 * more  # threads count, too
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
    """Bytes that they hold: all that is resident of the worker, what is not shared of its children."""
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
    """Reap ended children; return the worker's wait status, once it is known, and whether any child is left."""
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
    """Run before the processes that are to be killed, where that is allowed: a fork bomb may fork faster than this one
    kills while it has to share the processor."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, OSError):
        pass


def kill_all(worker: int, status: int | None) -> int | None:
    """Kill every descendant until none is left, faster than they can fork. Returns the worker's wait status.

    Again and again, since between reading the list and killing from it one may have forked.
    """
    deadline = time.monotonic() + KILL_SECONDS
    left = True
    raise_scheduling_priority()
    while left and time.monotonic() < deadline:
        try:
            os.killpg(worker, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        for pid in descendants():  # those in sessions of their own, which killpg does not reach
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
    """The first line on the pipe: passed here, and not as an argument, since it may hold an app's secrets."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)  # the server died before it asked for anything
        line += byte
    config: dict[str, Any] = json.loads(line)
    return config


def guard(config: dict[str, Any]) -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone decides
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.set_inheritable(STATUS, False)

    worker = start(config)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)  # else the server's end of these pipes would stay open until the guardian ends, not the worker
    report(pid=worker)

    status, reason, peak = None, "", 0
    while status is None and not reason:
        ready, _, _ = select.select([0, wake], [], [], config["interval"])
        if wake in ready:
            os.read(wake, 4096)
        if ready:
            status, _ = reap(worker, None)
        if 0 in ready and status is None:  # else it had ended by itself just before, and that is what is reported
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
