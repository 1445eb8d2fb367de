"""One worker: the process of one app instance, seen from the server."""

import asyncio
import contextlib
import hmac
import os
import secrets
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infsh._kernel import protocol
from mien.apps.environment import Environment
from mien.apps.process import Exit, GuardedProcess, ProcessLimits, clean_environment, status_words
from mien.storage.disk import disk_errors
from mien.workers.listener import AppError, GoneKind, Listener, RunCancelled, Silent, WorkerGone

TAIL_LINES = 20
LINE_CHARS = 16_384
LAST_WORDS_SECONDS = 2.0
HANG_UP_SECONDS = 0.3
TERM_SECONDS = 0.3


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


class Worker:
    """A running worker. Made by `start`; over once `gone` is set, which also means that no process of it is left."""

    def __init__(self, spec: WorkerSpec, process: GuardedProcess) -> None:
        self.spec = spec
        self.concurrency = 1
        self.gone = asyncio.Event()
        self.why: WorkerGone | None = None
        """How it ended, once it is gone."""
        self._process = process
        self._channel: protocol.AsyncChannel | None = None
        self._app_pid: int | None = None
        self._told = False
        self._fatal: protocol.Fatal | None = None
        self._runs: dict[str, _Run] = {}
        self._starting: asyncio.Future[Any] | None = None
        self._starter: Listener = Silent()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, spec: WorkerSpec, listener: Listener) -> "Worker":
        """Start the process and import the app. Raises AppError, WorkerGone; leaves nothing behind then."""
        await asyncio.to_thread(_make_folders, spec)
        token = secrets.token_urlsafe(32)
        reached: asyncio.Future[protocol.AsyncChannel] = asyncio.get_running_loop().create_future()
        with tempfile.TemporaryDirectory(prefix="mien-") as place:  # short, as paths of sockets must be
            address = Path(place) / "worker"
            door = await asyncio.start_unix_server(_greeter(reached, spec.folder / "spill"), address, limit=2**20)
            try:
                address.chmod(0o600)
                worker = cls(spec, await _start_process(spec, address, token))
                worker._starter = listener
                worker._spawn(worker._watch())
                try:
                    await worker._open(reached, token)
                except BaseException:
                    await worker.put_down()
                    raise
            finally:
                door.close()
        return worker

    async def setup(self, setup: Any, metadata: dict[str, Any], listener: Listener) -> float:
        """Run the app's setup and return its seconds. Raises AppError, WorkerGone."""
        self._starter = listener
        try:
            ready = await self._ask_start(protocol.Setup(setup, metadata), self.spec.setup_seconds, "its setup")
        finally:
            self._starter = Silent()
        return float(ready.took)

    async def run(
        self, run_id: str, function: str | None, given: Any, metadata: dict[str, Any], listener: Listener
    ) -> Any:
        """Run a function and return its output, with its files marked. Raises AppError, RunCancelled, WorkerGone."""
        run = _Run(listener, asyncio.get_running_loop().create_future())
        self._runs[run_id] = run
        try:
            await self._send(protocol.Run(run_id, given, function, metadata))
            return await run.ended
        finally:
            self._runs.pop(run_id, None)
            if run.ended.done() and not run.ended.cancelled():
                run.ended.exception()  # seen, also if the run could not even be sent

    def cancel(self, run_id: str, grace: float) -> None:
        """Ask the app to end the run; when `grace` seconds are over, end the process. At once if `grace` is 0. A run
        that has ended is left alone, and with it the worker, which may have the next one already."""
        run = self._runs.get(run_id)
        if run is None or run.ended.done():
            return
        if grace > 0:
            self._spawn(self._cancel(run_id, run, grace))
        else:
            self.kill()

    def kill(self) -> None:
        """End every process of the worker, now."""
        self._told = True
        self._process.kill()

    async def put_down(self) -> None:
        """Kill it and return when nothing of it is left, however often the caller is cancelled meanwhile."""
        self.kill()
        gone = asyncio.ensure_future(self.gone.wait())
        while not gone.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({gone})

    async def end(self, seconds: float) -> None:
        """Let the app unload itself, for at most that long, then kill it. Returns when nothing is left."""
        self._told = True
        with contextlib.suppress(WorkerGone, TimeoutError):
            async with asyncio.timeout(seconds):
                await self._send(protocol.Unload())
                await self.gone.wait()
        self.kill()
        await self.gone.wait()

    @property
    def pid(self) -> int | None:
        """The process that runs the app."""
        return self._app_pid

    @property
    def ended(self) -> bool:
        """Whether its processes are dead; `gone` follows when its files are removed, too."""
        return self._process.ended

    async def _open(self, reached: "asyncio.Future[protocol.AsyncChannel]", token: str) -> None:
        died: asyncio.Future[Any] = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait([reached, died], timeout=self.spec.start_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            died.cancel()
        if not reached.done():
            raise self._ended_while("starting", self.spec.start_seconds)
        self._channel = reached.result()
        hello = await self._channel.receive()
        if not isinstance(hello, protocol.Hello) or not hmac.compare_digest(hello.token, token):
            raise WorkerGone("the worker did not identify itself")
        if hello.version != protocol.VERSION:
            raise WorkerGone(f"the worker speaks version {hello.version} of the protocol, not {protocol.VERSION}")
        self._app_pid = hello.pid
        if self.gone.is_set():  # before anybody waited for its start
            raise self._ended_while("starting", self.spec.start_seconds)
        self._starting = asyncio.get_running_loop().create_future()
        self._spawn(self._listen(self._channel))
        loaded = await self._await_start(self.spec.start_seconds, "its import")
        self.concurrency = max(1, loaded.concurrency)

    async def _ask_start(self, message: protocol.Message, seconds: float, what: str) -> Any:
        self._starting = asyncio.get_running_loop().create_future()
        await self._send(message)
        return await self._await_start(seconds, what)

    async def _await_start(self, seconds: float, what: str) -> Any:
        assert self._starting is not None  # noqa: S101 - the callers set it
        try:
            return await asyncio.wait_for(self._starting, seconds)
        except TimeoutError:
            self.kill()
            raise AppError(f"the app did not finish {what} within {seconds:g} s", "setup") from None
        except BaseException:
            if not self.gone.is_set():
                self.kill()
            raise
        finally:
            self._starting = None

    def _ended_while(self, what: str, seconds: float) -> Exception:
        return self.why or WorkerGone(f"the worker was still {what} after {seconds:g} s")

    async def _send(self, message: protocol.Message) -> None:
        if self.gone.is_set() or self._channel is None:
            raise self.why or WorkerGone("the worker has not started")
        try:
            await self._channel.send(message)
        except OSError:
            await self.gone.wait()
            assert self.why is not None  # noqa: S101 - set together with gone
            raise self.why from None

    async def _cancel(self, run_id: str, run: "_Run", grace: float) -> None:
        with contextlib.suppress(WorkerGone):
            await self._send(protocol.Cancel(run_id, grace))
        await asyncio.wait({run.ended}, timeout=grace)
        if run.ended.done():
            return
        self._told = True
        if self._app_pid is not None and not self._process.ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._app_pid, signal.SIGTERM)
            await asyncio.wait({run.ended}, timeout=TERM_SECONDS)
        self.kill()

    # --- what comes from the worker

    async def _listen(self, channel: protocol.AsyncChannel) -> None:
        try:
            while (message := await channel.receive()) is not None:
                self._take(message)
        except (OSError, protocol.ProtocolError) as error:
            self._tail.append(f"the worker's messages do not read: {error}")
        # its own end tells more than that it was killed here
        await self._wait_ended(LAST_WORDS_SECONDS if self._fatal is not None or self._told else HANG_UP_SECONDS)
        self._process.kill()

    async def _wait_ended(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)

    def _take(self, message: protocol.Message) -> None:
        match message:
            case protocol.Log():
                self._say(message.line, message.run_id)
            case protocol.Progress():
                if run := self._runs.get(message.run_id):
                    run.listener.progress(message.fraction, message.message)
            case protocol.Output():
                if (run := self._runs.get(message.run_id)) and not message.final:
                    run.listener.output(message.output)
            case protocol.Done():
                self._settle(message.run_id, message.output)
            case protocol.Failed():
                self._settle(message.run_id, AppError(message.error, message.kind, message.traceback))
            case protocol.Cancelled():
                self._settle(message.run_id, RunCancelled())
            case protocol.Loaded() | protocol.Ready():
                if self._starting is not None and not self._starting.done():
                    self._starting.set_result(message)
            case protocol.Fatal():
                self._fatal = message

    def _settle(self, run_id: str, result: Any) -> None:
        run = self._runs.get(run_id)
        if run is None or run.ended.done():
            return
        if isinstance(result, Exception):
            run.ended.set_exception(result)
        else:
            run.ended.set_result(result)

    def _say(self, line: str, run_id: str | None) -> None:
        line = line[:LINE_CHARS]
        run = self._runs.get(run_id) if run_id is not None else None
        if run is not None:
            run.listener.log(line)
        elif self._starting is not None or not self._runs:
            self._tail.append(line)
            self._starter.log(line)
        else:
            for run in self._runs.values():
                run.listener.log(line)

    async def _watch(self) -> None:
        """Follow the process to its end; then, and only then, everything that waits for it fails."""
        await asyncio.gather(self._follow(self._process.stdout), self._follow(self._process.stderr))
        ended = await self._process.wait()
        listening = [task for task in self._tasks if task.get_name() == "listen"]
        if listening:  # the last messages may still be on their way
            await asyncio.wait(listening, timeout=LAST_WORDS_SECONDS)
        if self._channel is not None:
            await self._channel.close()
        self.why = WorkerGone(
            self._words(ended), kind=self._kind(ended), told=self._told and ended.reason in ("told", "")
        )
        error = self._start_error() or self.why
        await asyncio.to_thread(shutil.rmtree, self.spec.folder, ignore_errors=True)
        self.gone.set()
        for run in self._runs.values():
            if not run.ended.done():
                run.ended.set_exception(self.why)
        if self._starting is not None and not self._starting.done():
            self._starting.set_exception(error)

    async def _follow(self, stream: asyncio.StreamReader) -> None:
        """What the process says beside its messages: the relay's own trouble."""
        with contextlib.suppress(ValueError):
            while line := await stream.readline():
                self._say(line.decode(errors="replace").rstrip(), None)
        while await stream.read(2**16):  # a line over the limit: the rest is not for people
            pass

    def _start_error(self) -> AppError | None:
        fatal = self._fatal
        if fatal is None or fatal.kind not in ("load", "setup"):
            return None
        return AppError(fatal.error, fatal.kind, fatal.traceback)

    def _words(self, ended: Exit) -> str:
        if ended.reason in ("memory", "processes"):
            return f"the worker {ended.words()}"
        fatal = self._fatal
        if fatal is not None and fatal.kind == "crashed":
            return f"the worker {status_words(fatal.exit_code)}"
        if fatal is not None:
            return fatal.error
        if self._told:
            return "the worker was stopped"
        if ended.reason:
            return "the worker closed its connection"
        last = next((line for line in reversed(self._tail) if line.strip()), "")
        return f"the worker {ended.words()}" + (f"; its last line: {last}" if last and not ended.ok else "")

    def _kind(self, ended: Exit) -> GoneKind:
        if ended.reason == "memory" or ended.reason == "processes":
            return ended.reason
        fatal = self._fatal
        if (fatal is not None and fatal.kind != "crashed") or (fatal is None and ended.reason):
            return "protocol"
        status = ended.status if fatal is None else fatal.exit_code
        return "signal" if status is not None and status < 0 else "exited"

    def _spawn(self, work: Any) -> None:
        name = "listen" if getattr(work, "__name__", "") == "_listen" else None
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@dataclass(slots=True)
class _Run:
    listener: Listener
    ended: "asyncio.Future[Any]"


def _make_folders(spec: WorkerSpec) -> None:
    try:
        with disk_errors("the worker was not started"):
            spec.folder.mkdir(parents=True, mode=0o700)
            for name in ("home", "home/tmp", "spill", "files"):
                (spec.folder / name).mkdir(mode=0o700)
            shutil.copytree(spec.content, spec.folder / "app")
    except BaseException:
        shutil.rmtree(spec.folder, ignore_errors=True)
        raise


async def _start_process(spec: WorkerSpec, address: Path, token: str) -> GuardedProcess:
    variables = {
        **spec.variables,
        protocol.SOCKET_VARIABLE: str(address),
        protocol.TOKEN_VARIABLE: token,
        protocol.SPILL_VARIABLE: str(spec.folder / "spill"),
        protocol.APP_VARIABLE: str(spec.folder / "app"),
        "VIRTUAL_ENV": str(spec.environment.folder),
    }
    environment = spec.environment.hold()
    if environment is None:
        raise WorkerGone("the app's environment was removed while the worker started")
    try:
        return await GuardedProcess.start(
            [str(spec.environment.python), "-m", "infsh._kernel", "serve"],
            environment=clean_environment(spec.folder / "home", spec.environment.path, variables),
            folder=spec.folder / "app",
            limits=spec.limits,
            hold=[environment] if spec.family is None else [environment, spec.family],
        )
    finally:
        os.close(environment)


def _greeter(reached: "asyncio.Future[protocol.AsyncChannel]", spill: Path) -> Any:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reached.done():
            writer.close()
        else:
            reached.set_result(protocol.AsyncChannel(reader, writer, spill))

    return greet
