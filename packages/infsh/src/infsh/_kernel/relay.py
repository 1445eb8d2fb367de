"""The process that a supervisor starts: it forks the app's process and relays between it and the supervisor.

It forwards messages, turns the output of the app's process and its children into log messages, and outlives a crash, so
that the last lines of a process that died are never lost and the cause is reported.

It keeps two guarantees. The output of a run precedes the message that ends it, although one arrives by a pipe and the
other by a socket: the pipes are drained before such a message is forwarded. And a slow reader causes backpressure: with
`_FULL` bytes pending, their source is not read, so memory is bounded and nothing is dropped.

It is separate from Mien's guardian, which sits between the same two sides: any supervisor can use this protocol, and a
guardian has to outlive this process, outside of the app's environment and limits.
"""

import atexit
import contextlib
import ctypes
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from infsh._kernel import protocol
from infsh._kernel.channel import Channel
from infsh._kernel.codec import Codec
from infsh._kernel.lines import LineSplitter
from infsh._kernel.protocol import Message

_CHUNK = 1 << 16
_FULL = 1 << 20
"""Pending bytes for one side above which the other side is not read: a flood of logs slows the app down."""
_EXIT_SECONDS = 5.0
"""Seconds that the app's process has to exit after the supervisor is gone."""
_LAST_READS = 64
"""Reads of one pipe after which it counts as drained, of `_CHUNK` each: a child of the app may print endlessly."""
_PR_SET_PDEATHSIG = 1

ServeApp = Callable[[Channel], int]


def relay(supervisor: socket.socket, token: str, spill: Path | None, serve_app: ServeApp) -> int:
    """Runs `serve_app` in a forked process until that has ended; returns the exit status of this process.

    If the app's process died by a signal, this one dies by the same, so that the supervisor sees it.
    """
    ours, theirs = socket.socketpair()
    outputs = {"stdout": os.pipe(), "stderr": os.pipe()}
    pid = os.fork()
    if pid == 0:
        ours.close()
        supervisor.close()
        _become_the_app(outputs)
        _end(serve_app, Channel(theirs, spill))
    theirs.close()
    for _, write in outputs.values():
        os.close(write)
    link = _Relay(supervisor, ours, pid, {name: read for name, (read, _) in outputs.items()})
    link.tell(protocol.Hello(version=protocol.VERSION, pid=pid, token=token))
    return _exit_alike(link.run())


def _become_the_app(outputs: dict[str, tuple[int, int]]) -> None:
    # If the relay is killed, nothing reads the app's messages any more, so the app dies with it. Unlike the guardian
    # this need not check its parent: the socket to a relay that died before this line reads as closed.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for name, (read, write) in outputs.items():
        os.close(read)
        os.dup2(write, 1 if name == "stdout" else 2)
        os.close(write)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _end(serve_app: ServeApp, channel: Channel) -> NoReturn:
    """Serves and exits. Runs `atexit` handlers, but not the frames of the relay that this fork copied."""
    status = 1
    try:
        status = serve_app(channel)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # a bug in this code: logged, and visible in the exit status
        traceback.print_exc()
    finally:
        os._exit(status)


class _Relay:
    def __init__(self, supervisor: socket.socket, app: socket.socket, pid: int, outputs: dict[str, int]) -> None:
        self._supervisor = supervisor
        self._app = app
        self._pid = pid
        self._outputs = outputs
        self._lines = {name: LineSplitter() for name in outputs}
        self._codecs = {"up": Codec(), "down": Codec()}
        self._up = bytearray()
        self._down = bytearray()
        self._running: dict[str, None] = {}
        self._protocol_error = ""
        """The error in the app's messages, if any."""
        self._fatal_passed = False
        self._unload_requested = False
        self._orphaned_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()

    def tell(self, message: Message) -> None:
        self._up += self._codecs["up"].frame(message)

    def run(self) -> int:
        """Forwards everything until the app's process is dead; returns its status, or minus its signal."""
        for descriptor in (self._wake_read, self._wake_write, *self._outputs.values()):
            os.set_blocking(descriptor, False)
        self._supervisor.setblocking(False)
        self._app.setblocking(False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._pass_on)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while (died := self._died()) is None:
            self._wait()
            self._kill_orphan()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # no process to forward it to, but messages to send
        self._finish(*died)
        return died[0]

    def _pass_on(self, number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(self._pid, number)

    # --- the loop

    def _wait(self) -> None:
        """One iteration of the event loop."""
        wanted: dict[int, int] = {self._wake_read: selectors.EVENT_READ}
        room_up, room_down = len(self._up) < _FULL, len(self._down) < _FULL
        if room_up:
            wanted.update(dict.fromkeys(self._outputs.values(), selectors.EVENT_READ))
        self._want(wanted, self._app, room_up, bool(self._down))
        if self._orphaned_at is None:
            self._want(wanted, self._supervisor, room_down, bool(self._up))
        ready = self._select(wanted)
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, _CHUNK)
        for name, descriptor in list(self._outputs.items()):
            if descriptor in ready:
                self._read_output(name, descriptor)
        if self._app.fileno() in ready:
            self._with_app(ready[self._app.fileno()])
        if self._orphaned_at is None and self._supervisor.fileno() in ready:
            self._with_supervisor(ready[self._supervisor.fileno()])

    def _want(self, wanted: dict[int, int], peer: socket.socket, read: bool, write: bool) -> None:
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        if events and peer.fileno() >= 0:
            wanted[peer.fileno()] = events

    def _select(self, wanted: dict[int, int]) -> dict[int, int]:
        known = {key.fd: key.events for key in self._selector.get_map().values()}
        for descriptor in known.keys() - wanted.keys():
            self._selector.unregister(descriptor)
        for descriptor, events in wanted.items():
            if descriptor not in known:
                self._selector.register(descriptor, events)
            elif known[descriptor] != events:
                self._selector.modify(descriptor, events)
        timeout = 0.2 if self._orphaned_at is not None else None
        return {key.fd: events for key, events in self._selector.select(timeout)}

    def _read_output(self, name: str, descriptor: int) -> bool:
        """Turns what is in the pipe into log messages; whether there was anything."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._log(name, self._lines[name].rest())
            self._forget(descriptor)
            del self._outputs[name]
            os.close(descriptor)
            return False
        self._log(name, self._lines[name].feed(data))
        return True

    def _log(self, stream: str, lines: list[str]) -> None:
        run_id = next(iter(self._running)) if len(self._running) == 1 else None
        for line in lines:
            self.tell(protocol.Log(line=line, stream=stream, run_id=run_id))

    def _drain_outputs(self) -> None:
        for name, descriptor in list(self._outputs.items()):
            for _ in range(_LAST_READS):
                if not self._read_output(name, descriptor):
                    break
            self._log(name, self._lines[name].rest())

    def _with_app(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(self._app, self._down)
        if events & selectors.EVENT_READ:
            data = self._receive(self._app)
            if data is None:
                return
            if not data:
                self._forget(self._app.fileno())
                self._app.close()
                return
            try:
                self._pass_up(data)
            except protocol.ProtocolError as error:  # the app wrote to a descriptor that is not its own
                # After that the stream cannot be read again, and runs would never end: the supervisor starts another.
                self._protocol_error = f"the app's process sent bytes that are not a message: {error}"
                os.kill(self._pid, signal.SIGKILL)

    def _pass_up(self, data: bytes) -> None:
        for frame, kind, run_id in self._codecs["up"].frames(data):
            if kind in _ENDS:
                self._drain_outputs()
                self._running.pop(str(run_id), None)
            elif kind == protocol.Ready.type:
                self._drain_outputs()
            elif kind == protocol.Fatal.type:
                self._drain_outputs()
                self._fatal_passed = True
            self._up += frame

    def _with_supervisor(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and not self._send(self._supervisor, self._up):
            self._orphan()
            return
        if events & selectors.EVENT_READ:
            data = self._receive(self._supervisor)
            if data is None:
                return
            if not data:
                self._orphan()
                return
            try:
                self._pass_down(data)
            except protocol.ProtocolError as error:
                self.tell(
                    protocol.Fatal(error=f"the worker received bytes that are not a message: {error}", kind="protocol")
                )
                self._fatal_passed = True
                self._flush_up(1.0)
                self._orphan()

    def _pass_down(self, data: bytes) -> None:
        for frame, kind, run_id in self._codecs["down"].frames(data, trusted=True):
            if kind == protocol.Run.type:
                self._running[str(run_id)] = None
            elif kind == protocol.Unload.type:
                self._unload_requested = True
            self._down += frame

    def _orphan(self) -> None:
        """The supervisor is gone: the app's process sees EOF on its socket, and is killed if it does not exit."""
        self._orphaned_at = time.monotonic()
        self._forget(self._supervisor.fileno())
        self._up.clear()
        with contextlib.suppress(OSError):
            self._app.shutdown(socket.SHUT_WR)

    def _kill_orphan(self) -> None:
        if self._orphaned_at is None:
            return
        self._up.clear()
        if time.monotonic() - self._orphaned_at > _EXIT_SECONDS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _forget(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)

    @staticmethod
    def _send(peer: socket.socket, waiting: bytearray) -> bool:
        try:
            del waiting[: peer.send(waiting)]
        except BlockingIOError:
            return True
        except OSError:
            waiting.clear()
            return False
        return True

    @staticmethod
    def _receive(peer: socket.socket) -> bytes | None:
        """None if there is no data yet; empty at the end."""
        try:
            return peer.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    # --- the end

    def _died(self) -> tuple[int, int] | None:
        pid, status, usage = os.wait4(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit

    def _finish(self, exit_code: int, max_rss: int) -> None:
        """Forwards what the dead process left in its socket and pipes, then how it died."""
        while self._app.fileno() >= 0:
            data = self._receive(self._app)
            if not data:
                break
            with contextlib.suppress(protocol.ProtocolError):
                self._pass_up(data)
        self._drain_outputs()
        if self._protocol_error and not self._fatal_passed:
            self.tell(protocol.Fatal(error=self._protocol_error, kind="protocol"))
        elif not self._fatal_passed and not (exit_code == 0 and self._unload_requested):
            self.tell(
                protocol.Fatal(error=_cause(exit_code), kind="crashed", exit_code=exit_code, max_rss_bytes=max_rss)
            )
        if self._orphaned_at is None:
            self._flush_up(5.0)

    def _flush_up(self, seconds: float) -> None:
        self._supervisor.settimeout(seconds)
        with contextlib.suppress(OSError):
            self._supervisor.sendall(self._up)
        self._up.clear()
        self._supervisor.setblocking(False)


_ENDS = {message.type for message in protocol.RUN_ENDS}


def _cause(exit_code: int) -> str:
    if exit_code >= 0:
        return f"the app's process ended by itself with status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (the machine may be out of memory)" if name == "SIGKILL" else ""
    return f"the app's process was ended by {name}{hint}"


def _exit_alike(exit_code: int) -> int:
    """The status to exit with; after a signal this process dies by the same one, without a second core dump."""
    if exit_code >= 0:
        return exit_code
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-exit_code, signal.SIG_DFL)
    os.kill(os.getpid(), -exit_code)
    return 128 - exit_code
