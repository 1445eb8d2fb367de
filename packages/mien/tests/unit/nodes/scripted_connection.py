"""A connection to a node that does what a test says, for tests of the pool."""

import asyncio
from collections.abc import AsyncGenerator

from mien.engine.cancellation import CancelScope
from mien.errors import MienError, Unavailable
from mien.inference.contract import InferRequest, InferResult
from mien.nodes.proto.inference_pb2 import Capability, IOTask


def capability(service: str = "s", *tasks: str, concurrency: int = 0) -> Capability:
    return Capability(
        service_name=service,
        protocol_version="1.0",
        tasks=[IOTask(name=name) for name in tasks or ("t",)],
        max_concurrency=concurrency,
    )


class ScriptedConnection:
    """A `Connection`. Its node answers with its address."""

    def __init__(self, address: str, *, concurrency: int = 0) -> None:
        self.address = address
        self.capabilities: tuple[Capability, ...] = (capability(concurrency=concurrency),)
        self.unwell: MienError | None = None
        """Raised by `connect` and `check`."""
        self.failure: MienError | None = None
        """Raised by requests, after a part if `late`."""
        self.late = False
        self.asked = 0
        self.running = self.most = 0
        """Requests at once, now and at most."""
        self.release = asyncio.Event()
        """Requests wait for it."""
        self.release.set()
        self.closed = False

    async def connect(self, seconds: float) -> tuple[Capability, ...]:
        await self.check(seconds)
        return self.capabilities

    async def check(self, seconds: float) -> None:
        if self.unwell:
            raise self.unwell

    async def infer(
        self, request: InferRequest, call: CancelScope, *, service: str = "", stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.release.wait()
        finally:
            self.running -= 1
        if self.closed:
            raise Unavailable("the connection was closed")
        if self.late or stream:
            yield InferResult(b"part")
        if self.failure:
            raise self.failure
        yield InferResult(self.address.encode(), is_final=True)

    async def close(self) -> None:
        self.closed = True
        self.release.set()
