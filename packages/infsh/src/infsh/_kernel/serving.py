"""The process that runs the app: messages in, one `AppRunner`, messages out."""

import asyncio
import contextlib
import ctypes
import faulthandler
import io
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from infsh._caller import CallerRules, use_downloads
from infsh._context import current_run
from infsh._errors import InfshError
from infsh._kernel import protocol, traces
from infsh._kernel.channel import Channel
from infsh._kernel.downloads import Downloads
from infsh._kernel.loader import LoadedApp, load_app
from infsh._kernel.protocol import Message
from infsh._kernel.runner import AppFailed, AppRunner, RunCancelled

_LIBC = ctypes.CDLL(None)
_PROGRESS_INTERVAL = 0.05
_LAST_SECONDS = 3.0
"""Seconds after which an exit is forced."""


class ChannelSink:
    """Sends logs and progress of runs as messages; progress at most every 50 ms per run."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sent_at: dict[str, float] = {}

    def log(self, line: str, run_id: str | None) -> None:
        for part in line.splitlines() or [""]:
            self.send(protocol.Log(line=part, stream="log", run_id=run_id))

    def progress(self, run_id: str, fraction: float, message: str) -> None:
        now = time.monotonic()
        if fraction < 1.0 and now - self._sent_at.get(run_id, -1.0) < _PROGRESS_INTERVAL:
            return
        self._sent_at[run_id] = now
        self.send(protocol.Progress(run_id=run_id, fraction=fraction, message=message))

    def ended(self, run_id: str) -> None:
        self._sent_at.pop(run_id, None)

    def send(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, and the reader ends this process
            self._channel.send(message)


class LogHandler(logging.Handler):
    """Records of `self.logger` as lines of the run that logged them."""

    def __init__(self, sink: ChannelSink) -> None:
        super().__init__()
        self._sink = sink
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        run = current_run()
        try:
            line = self.format(record)
        except (TypeError, ValueError):
            self.handleError(record)
            return
        self._sink.log(line, run.run_id if run else None)


def serve_app(channel: Channel, path: Path) -> int:
    """Serves one app until `unload` or until the supervisor is gone; returns the exit status."""
    _prepare_output()
    sink = ChannelSink(channel)
    app_log = logging.getLogger("infsh.app")
    app_log.addHandler(LogHandler(sink))
    app_log.setLevel(logging.INFO)
    app_log.propagate = False
    with asyncio.Runner() as loop_runner:
        loop = loop_runner.get_loop()
        inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        downloads = Downloads(sink.send)
        use_downloads(downloads.get)
        reader = (channel, sink, loop, inbox, downloads)
        threading.Thread(target=_read, args=reader, name="infsh-reader", daemon=True).start()
        loaded = _load(path, sink)
        if loaded is None:
            return 1
        status = loop_runner.run(_Server(loaded, sink, inbox).serve())
        _exit_within(_LAST_SECONDS, status)
    return status


def _load(path: Path, sink: ChannelSink) -> LoadedApp | None:
    try:
        loaded = load_app(path)
        functions, schemas = list(loaded.functions), loaded.schemas()
    except InfshError as error:
        sink.send(protocol.Fatal(error=str(error), kind="load"))
        return None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the app's own code may raise anything
        said, trace = traces.sentence(error, path.resolve()), traces.frames(error, path.resolve())
        sink.send(protocol.Fatal(error=f"the app cannot be imported: {said}", kind="load", traceback=trace))
        return None
    sink.send(
        protocol.Loaded(
            functions=functions,
            schemas=schemas,
            default_function=loaded.default_function,
            concurrency=loaded.concurrency,
        )
    )
    return loaded


class _Server:
    def __init__(self, loaded: LoadedApp, sink: ChannelSink, inbox: "asyncio.Queue[Message | None]") -> None:
        self._sink = sink
        self._inbox = inbox
        self._runner = AppRunner(loaded, sink)
        self._ready = False
        self._paths: tuple[Path, ...] = ()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self) -> int:
        while True:
            message = await self._inbox.get()
            match message:
                case protocol.Setup():
                    if not await self._setup(message):
                        return 1
                case protocol.Run():
                    self._start(self._run(message))
                case protocol.Cancel():
                    self._start(self._runner.cancel(message.run_id, message.grace))
                case protocol.Unload() | None:
                    return await self._unload()

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _setup(self, message: protocol.Setup) -> bool:
        if self._ready:
            self._sink.send(protocol.Fatal(error="a worker is set up once", kind="protocol"))
            return False
        self._runner.marker = message.marker or self._runner.marker
        try:
            self._paths = tuple(map(Path, message.paths))
            rules = CallerRules(_folder(message.files), paths=self._paths)
            took = await self._runner.setup(message.setup, message.metadata, rules=rules)
        except AppFailed as error:
            self._flush()
            self._sink.send(protocol.Fatal(error=error.error, kind="setup", traceback=error.traceback))
            return False
        self._ready = True
        self._flush()
        self._sink.send(protocol.Ready(took=took))
        return True

    async def _run(self, message: protocol.Run) -> None:
        run_id = message.run_id

        def on_output(output: Any) -> None:
            self._sink.send(protocol.Output(run_id=run_id, output=output))

        rules = CallerRules(_folder(message.files), run_id, self._paths)
        answer: Message
        try:
            output = await self._runner.run(
                run_id, message.input, on_output, function=message.function, metadata=message.metadata, rules=rules
            )
            answer = protocol.Done(run_id=run_id, output=output)
        except AppFailed as error:
            answer = protocol.Failed(
                run_id=run_id, error=error.error, traceback=error.traceback, kind=error.kind, code=error.code
            )
        except RunCancelled:
            answer = protocol.Cancelled(run_id=run_id)
        self._flush()
        try:
            self._sink.send(answer)
        except protocol.ProtocolError as error:
            self._sink.send(protocol.Failed(run_id=run_id, error=f"the output cannot be sent: {error}", kind="output"))
        self._sink.ended(run_id)

    async def _unload(self) -> int:
        try:
            await self._runner.unload()
        except AppFailed as error:
            self._sink.send(protocol.Fatal(error=error.error, kind="unload", traceback=error.traceback))
            return 1
        return 0

    def _flush(self) -> None:
        """Flushes all output, including C's own buffers, into the pipes before a run ends."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        _LIBC.fflush(None)


def _folder(name: str | None) -> Path | None:
    return Path(name) if name else None


def _read(
    channel: Channel,
    sink: ChannelSink,
    loop: asyncio.AbstractEventLoop,
    inbox: "asyncio.Queue[Message | None]",
    downloads: Downloads,
) -> None:
    """Reads messages in its own thread, which replies to pings and passes files on: an app that blocks its event loop
    counts as alive, and gets the file that it blocks on."""
    while True:
        try:
            message = channel.receive()
        except (OSError, protocol.ProtocolError) as error:
            sink.send(protocol.Fatal(error=f"the worker cannot read its messages: {error}", kind="protocol"))
            message = None
        if isinstance(message, protocol.Ping):
            sink.send(protocol.Pong())
            continue
        if isinstance(message, protocol.Fetched):
            downloads.settle(message)
            continue
        if message is None:
            downloads.close()
            _exit_within(_LAST_SECONDS, 1)
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(inbox.put_nowait, message)
        if message is None:
            return


def _exit_within(seconds: float, status: int) -> None:
    """Forces the exit if threads of the app still keep the process alive by then."""
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()


def _prepare_output() -> None:
    """Line-buffered output that never fails to encode; a crash in C prints where."""
    sys.stdout = sys.__stdout__ = _text_stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(2)  # type: ignore[misc]
    faulthandler.enable()


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    """A new stream: Python's own was created for the descriptor's previous target."""
    binary = open(descriptor, "wb", closefd=False)  # noqa: SIM115  # lives as long as the process
    return io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)
