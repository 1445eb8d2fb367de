"""Real nodes in processes of their own, and pools and raw channels that talk to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mien.engine.cancellation import CancelScope
from mien.inference.contract import InferRequest, InferResult, Item
from mien.nodes.client import Chunking, NodeClient
from mien.nodes.contract import INFER
from mien.nodes.node import Node, State
from mien.nodes.pool import NodePool, PoolOptions
from mien.nodes.proto.inference_pb2 import InferRequest as Message
from mien.nodes.proto.inference_pb2 import InferResponse

SCRIPT = Path(__file__).with_name("node_process.py")


@dataclass
class NodeProcess:
    """A node of node_process.py."""

    process: subprocess.Popen[str]
    port: int
    log_path: Path
    name: str

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def words(self) -> dict[str, float]:
        """What its services noted, with the time of each word's last occurrence."""
        lines = self.log_path.read_text().splitlines() if self.log_path.exists() else []
        return {word: float(moment) for word, moment in (line.split() for line in lines)}

    def wait_for(self, word: str, seconds: float = 20.0) -> float:
        deadline = time.monotonic() + seconds
        while word not in self.words:
            assert time.monotonic() < deadline, f"no {word!r} among {self.words}"
            time.sleep(0.01)
        return self.words[word]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


def nodes_in(folder: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes that end with the iterator: `start("name", port=0)`."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str = "one", port: int = 0) -> NodeProcess:
        log = folder / f"{name}.log"
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(port), str(log), name],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        bound = next(line.split()[1] for line in lines if line.startswith("ready"))
        return NodeProcess(process, int(bound), log, name)

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes: `start_node("name", port=0)`."""
    yield from nodes_in(tmp_path)


@pytest.fixture
def own_node(start_node: Callable[..., NodeProcess]) -> NodeProcess:
    """For tests that read what it noted, or leave work behind."""
    return start_node()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The node that all other tests share."""
    for start in nodes_in(tmp_path_factory.mktemp("node")):
        yield start()


@asynccontextmanager
async def pool_of(*nodes: NodeProcess, health: float = 0.5, **options: Any) -> AsyncIterator[NodePool]:
    """A pool that knows the nodes and is ready for requests."""
    pool = NodePool(
        PoolOptions(connect=2.0, health=health, **{"cooldown_min": 0.5, "cooldown_max": 2.0, **options}),
        lambda address, source: NodeClient(address, chunking=Chunking()),
    )
    try:
        for node in nodes:
            pool.add(node.address)
        for known in pool.nodes:
            await reaches(known, State.READY)
        yield pool
    finally:
        await pool.close()


async def reaches(node: Node, state: State, seconds: float = 40.0) -> float:
    """Wait until the node is in the state; returns the seconds it took."""
    import asyncio

    started = time.monotonic()
    while node.state is not state:
        assert time.monotonic() - started < seconds, f"still {node.state}: {node.reason}"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


@pytest.fixture
def pool() -> Callable[..., Any]:
    return pool_of


@pytest.fixture
def reach() -> Callable[..., Any]:
    return reaches


async def answer(
    pool: NodePool,
    service: str,
    data: bytes = b"hello",
    *,
    stream: bool = False,
    seconds: float | None = 20,
    mime: str = "text/plain",
    task: str = "",
    call: CancelScope | None = None,
    **metadata: str,
) -> list[InferResult]:
    """All messages of one request."""
    request = InferRequest((Item(data, mime),), task, metadata, "corr-1")
    return [result async for result in pool.infer(service, request, call or CancelScope(seconds), stream=stream)]


@pytest.fixture
def ask() -> Callable[..., Any]:
    return answer


@asynccontextmanager
async def streams_to(node: NodeProcess) -> AsyncIterator[Callable[..., Any]]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        method = channel.stream_stream(INFER, Message.SerializeToString, InferResponse.FromString)
        yield method


@pytest.fixture
async def raw(node: NodeProcess) -> AsyncIterator[Callable[..., Any]]:
    """Opens a bare `Infer` stream to the shared node, as a foreign client does: `raw(timeout=…)`."""
    async with streams_to(node) as open_stream:
        yield open_stream


@pytest.fixture
async def raw_own(own_node: NodeProcess) -> AsyncIterator[Callable[..., Any]]:
    """The same to a node of the test's own."""
    async with streams_to(own_node) as open_stream:
        yield open_stream
