"""The server's side of a worker on this machine: a guarded process that runs an app in the kernel."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from typing import Any, Self

from infsh._kernel import protocol
from infsh._kernel.channel import AsyncChannel
from mien.apps.process import GuardedProcess
from mien.encoded import Encoded
from mien.workers.ending import how_it_ended, start_error
from mien.workers.fetches import Fetches
from mien.workers.handshake import Rendezvous, greet, rendezvous
from mien.workers.inbox import Inbox, PendingRun
from mien.workers.launch import make_folders, remove_folders, start_process
from mien.workers.listener import AppError, Listener, WorkerGone
from mien.workers.worker import WorkerSpec

LAST_WORDS_SECONDS = 2.0
"""How long to wait for messages still in flight when the worker ends: its own report is more specific than its exit
status."""
DISCONNECT_SECONDS = 0.3
"""How long a process may take to exit by itself after closing its connection, before it is killed."""
TERM_SECONDS = 0.3
"""Time between SIGTERM and SIGKILL, once the grace period of a cancelled run is over."""


class LocalWorker:
    """Implements `mien.workers.worker.Worker`; created by `start`."""

    def __init__(self, spec: WorkerSpec, process: GuardedProcess) -> None:
        self.spec = spec
        self.concurrency = 1
        self.gone = asyncio.Event()
        self.why: WorkerGone | None = None
        self._process = process
        self._channel: AsyncChannel | None = None
        self._app_pid: int | None = None
        self._stop_requested = False
        self._inbox = Inbox()
        self._fetches = Fetches(self._send, spec.files_of)
        self._listening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, spec: WorkerSpec, listener: Listener) -> Self:
        """Start the process and import the app. Raises AppError, WorkerGone, MienError, after cleaning up."""
        await asyncio.to_thread(make_folders, spec)
        async with rendezvous(spec.folder / "spill") as meeting:
            worker = cls(spec, await start_process(spec, meeting.address, meeting.token))
            worker._spawn(worker._watch())
            try:
                with worker._inbox.start(listener) as loaded:
                    await worker._connect(meeting)
                    answer = await worker._await_start(loaded, spec.start_seconds, "its import")
                worker.concurrency = max(1, answer.concurrency)
            except BaseException:
                await worker.kill_and_wait()
                raise
        return worker

    async def setup(self, setup: Any, metadata: dict[str, Any], listener: Listener) -> float:
        with self._inbox.start(listener) as ready, self._fetches.until_end(None):
            files = str(self.spec.files_of(None))
            # Each by both of its names, if it is a link: clients may know either.
            paths = sorted({str(name) for folder in self.spec.input_dirs for name in (folder, folder.resolve())})
            await self._send(protocol.Setup(setup, metadata, self.spec.marker, files, paths))
            answer = await self._await_start(ready, self.spec.setup_seconds, "its setup")
        return float(answer.took)

    async def run(
        self, run_id: str, function: str | None, given: Encoded, metadata: dict[str, Any], listener: Listener
    ) -> Any:
        with self._inbox.run(run_id, listener) as run, self._fetches.until_end(run_id):
            files = str(self.spec.files_of(run_id))
            await self._send(protocol.Run(run_id, protocol.EncodedJson(given.text), function, metadata, files))
            return await run.ended

    def cancel(self, run_id: str, grace: float) -> None:
        run = self._inbox.find(run_id)
        if run is None:
            return
        if grace > 0:
            self._spawn(self._cancel(run_id, run, grace))
        else:
            self.kill()

    def kill(self) -> None:
        self._stop_requested = True
        self._process.kill()

    async def kill_and_wait(self) -> None:
        self.kill()
        gone = asyncio.ensure_future(self.gone.wait())
        while not gone.done():  # returning earlier would allow its task to be started again while it still runs
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({gone})

    async def unload(self, seconds: float) -> None:
        self._stop_requested = True
        with contextlib.suppress(WorkerGone, TimeoutError):
            async with asyncio.timeout(seconds):
                await self._send(protocol.Unload())
                await self.gone.wait()
        self.kill()
        await self.gone.wait()

    @property
    def pid(self) -> int | None:
        return self._app_pid

    @property
    def ended(self) -> bool:
        return self._process.ended

    # --- to the worker

    async def _connect(self, meeting: Rendezvous) -> None:
        died: asyncio.Future[Any] = asyncio.ensure_future(self.gone.wait())
        seconds = self.spec.start_seconds
        try:
            await asyncio.wait([meeting.reached, died], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            died.cancel()
        if not meeting.reached.done():
            raise self.why or WorkerGone(f"the worker was still starting after {seconds:g} s")
        self._channel = meeting.reached.result()
        self._app_pid = (await greet(self._channel, meeting.token)).pid
        self._listening = self._spawn(self._listen(self._channel))

    async def _await_start(self, answer: "asyncio.Future[Any]", seconds: float, what: str) -> Any:
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            self.kill()
            raise AppError(f"the app did not finish {what} within {seconds:g} s", "setup") from None
        except BaseException:
            if not self.gone.is_set():
                self.kill()
            raise

    async def _send(self, message: protocol.Message) -> None:
        if self.gone.is_set() or self._channel is None:
            raise self.why or WorkerGone("the worker has not started")
        try:
            await self._channel.send(message)
        except OSError:
            # It is dying. Only once it is gone is the cause known, and may its task be retried.
            await self.gone.wait()
            assert self.why is not None  # noqa: S101 - set together with gone
            raise self.why from None

    async def _cancel(self, run_id: str, run: PendingRun, grace: float) -> None:
        """The kernel first cancels cooperatively (`on_cancel`, then an exception in the app's code). If the run has not
        ended after the grace period, the process gets SIGTERM, for the app's own handlers, and then SIGKILL."""
        with contextlib.suppress(WorkerGone):
            await self._send(protocol.Cancel(run_id, grace))
        await asyncio.wait({run.ended}, timeout=grace)
        if run.ended.done():
            return
        self._stop_requested = True
        if self._app_pid is not None and not self._process.ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._app_pid, signal.SIGTERM)
            await asyncio.wait({run.ended}, timeout=TERM_SECONDS)
        self.kill()

    # --- from the worker

    async def _listen(self, channel: AsyncChannel) -> None:
        try:
            while (message := await channel.receive()) is not None:
                if isinstance(message, protocol.Fetch):
                    self._fetches.start(message, self._inbox.listener(message.run_id))
                else:
                    self._inbox.dispatch(message)
        except (OSError, protocol.ProtocolError) as error:
            self._inbox.tail.append(f"the worker's messages cannot be parsed: {error}")
        # The connection has ended, but perhaps not the process. Give it time to exit by itself: its own exit status is
        # more informative than that it was killed here.
        last_words = self._inbox.fatal is not None or self._stop_requested
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), LAST_WORDS_SECONDS if last_words else DISCONNECT_SECONDS)
        self._process.kill()

    async def _watch(self) -> None:
        """Wait for the process to end, and only then fail everything that waits for the worker.

        The order matters: the pipes reach their end (so that output is logged before the run ends), the guardian
        reports that no process is left, the last messages are read, the directory is removed. Only then is `gone` set,
        since its capacity, its environment and its task may be reused from then on.
        """
        await asyncio.gather(self._follow(self._process.stdout), self._follow(self._process.stderr))
        ended = await self._process.wait()
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=LAST_WORDS_SECONDS)
        if self._channel is not None:
            await self._channel.close()
        fatal = self._inbox.fatal
        self.why = how_it_ended(ended, fatal, self._inbox.tail, stop_requested=self._stop_requested)
        await asyncio.to_thread(remove_folders, self.spec)
        self.gone.set()
        self._inbox.fail_all(self.why, start_error(fatal))

    async def _follow(self, stream: asyncio.StreamReader) -> None:
        """Log what the process prints itself, outside of its messages: errors of the relay."""
        with contextlib.suppress(ValueError):  # a line exceeds the limit: the rest of the output is dropped
            while line := await stream.readline():
                self._inbox.log(line.decode(errors="replace").rstrip())
        while await stream.read(2**16):
            pass  # keep draining: a full pipe would block the process

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
