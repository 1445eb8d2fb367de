"""Apps in folders, and kernels driven as by a supervisor."""

import asyncio
import contextlib
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from infsh._kernel import protocol
from infsh._kernel.channel import AsyncChannel
from infsh._kernel.protocol import Message

IMPORTS = """\
import asyncio, os, sys, time, threading
from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File, Metadata

class AppInput(BaseAppInput):
    text: str = "hello"

class AppOutput(BaseAppOutput):
    text: str
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("INFSH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def app_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes an app's folder: the body of inference.py after the usual imports, inf.yml, other files."""

    def write(body: str, *, manifest: str = "name: tested\n", imports: str = IMPORTS, **files: str) -> Path:
        folder = tmp_path / "tested-app"
        folder.mkdir(exist_ok=True)
        (folder / "inf.yml").write_text(manifest)
        (folder / "inference.py").write_text(imports + textwrap.dedent(body))
        for name, content in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(content))
        return folder

    return write


@pytest.fixture
def restored_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading an app modifies the process; undo that after the test."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Worker:
    """A kernel process and the supervisor's side of its connection. `got` has every message in order."""

    def __init__(self, process: asyncio.subprocess.Process, channel: AsyncChannel) -> None:
        self.process = process
        self.channel = channel
        self.got: list[Message] = []
        self.marker = "$file:secret"
        self.files: Path | None = None
        """The folder of files that runs are given."""
        self.web: Callable[[protocol.Fetch], protocol.Fetched | None] = lambda asked: protocol.Fetched(
            asked.fetch_id, error="there is no web here", code="source_refused"
        )
        """Answers the worker's requests for URLs; None: no answer."""

    async def send(self, message: Message) -> None:
        await self.channel.send(message)

    async def receive(self) -> Message | None:
        async with asyncio.timeout(20):
            message = await self.channel.receive()
        if message is not None:
            self.got.append(message)
        if isinstance(message, protocol.Fetch) and (answer := self.web(message)) is not None:
            await self.send(answer)
        return message

    async def until(self, *kinds: type[Message], run_id: str | None = None) -> Any:
        """The next message of one of these types (and of this run)."""
        while True:
            message = await self.receive()
            assert message is not None, f"the worker left before {kinds}: {self.got}"
            if isinstance(message, kinds) and run_id in (None, getattr(message, "run_id", None)):
                return message

    async def rest(self) -> list[Message]:
        """Everything up to the end of the connection."""
        while await self.receive() is not None:
            pass
        return self.got

    async def run(self, value: Any = None, *, run_id: str = "r1", function: str | None = None, **metadata: Any) -> Any:
        """The end of a run."""
        files = None if self.files is None else str(self.files)
        await self.send(protocol.Run(run_id=run_id, input=value, function=function, metadata=metadata, files=files))
        return await self.until(*protocol.RUN_ENDS, run_id=run_id)

    def lines(self, stream: str) -> list[str]:
        return [m.line for m in self.got if isinstance(m, protocol.Log) and m.stream == stream]


@pytest.fixture
async def start_worker(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a kernel on a folder; `ready=False` leaves it before its setup."""
    connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    spill = tmp_path / "spill"
    spill.mkdir()
    workers: list[Worker] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connections.put((reader, writer))

    path = os.path.relpath(tmp_path / "s")  # a socket's path is short
    server = await asyncio.start_unix_server(accept, path)

    async def start(
        folder: Path,
        *,
        ready: bool = True,
        setup: Any = None,
        env: dict[str, str] | None = None,
        measured: bool = True,
        paths: Sequence[str] = (),
    ) -> Worker:
        inherited = dict(os.environ)
        if not measured:  # an exception that another thread raises in the run is lost in coverage's tracer
            inherited.pop("COVERAGE_PROCESS_CONFIG", None)
        given = {
            protocol.SOCKET_VARIABLE: str(tmp_path / "s"),
            protocol.TOKEN_VARIABLE: "secret",
            protocol.SPILL_VARIABLE: str(spill),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "infsh._kernel",
            "serve",
            str(folder),
            env={**inherited, **given, **(env or {})},
            process_group=0,
        )
        async with asyncio.timeout(20):
            worker = Worker(process, AsyncChannel(*await connections.get(), spill))
        workers.append(worker)
        if ready:
            await worker.until(protocol.Loaded)
            given_setup = protocol.Setup(setup, {"app_id": "tested"}, worker.marker, paths=list(paths))
            await worker.send(given_setup)
            await worker.until(protocol.Ready)
        return worker

    yield start
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, 9)
        await worker.channel.close()
        await worker.process.wait()
    server.close()
    await server.wait_closed()
