"""What the pool relies on: of the gRPC client, and of the scripted connection that the pool's own tests use."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import MienError, RequestError, Unavailable
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.nodes.client import NodeClient
from mien.nodes.member import Connection
from mien.nodes.server import NodeServer
from packages.mien.tests.unit.nodes.scripted_connection import ScriptedConnection

REQUEST = InferRequest((Item(b"x", "text/plain"),), "t")


@dataclass
class Case:
    """A connection, and how a test makes its node behave."""

    connection: Connection
    refuse: Callable[[], Awaitable[None]]
    """The node takes no requests any more."""
    fail_with: Callable[[MienError], None]
    """Requests fail from now on."""
    hold: Callable[[], None]
    """Requests get no answer from now on."""


class Service:
    name = "s"
    failure: MienError | None = None

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("t", ("text/plain",), ("text/plain",))]

    async def infer(
        self, request: InferRequest, scope: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        await self.release.wait()
        if self.failure is not None:
            raise self.failure
        if stream:
            yield InferResult(b"part", "text/plain")
        yield InferResult(b"all", "text/plain", is_final=True)


async def over_grpc() -> AsyncIterator[Case]:
    service = Service()
    server = NodeServer(lambda: [service])
    client = NodeClient(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
    await server.set_ready()
    yield Case(
        client,
        refuse=lambda: server.set_ready(ready=False),
        fail_with=lambda error: setattr(service, "failure", error),
        hold=service.release.clear,
    )
    await client.close()
    await server.stop(0)


async def scripted() -> AsyncIterator[Case]:
    connection = ScriptedConnection("a:1")

    async def refuse() -> None:
        connection.unwell = Unavailable("not ready")

    yield Case(
        connection,
        refuse=refuse,
        fail_with=lambda error: setattr(connection, "failure", error),
        hold=connection.release.clear,
    )


@pytest.fixture(params=[over_grpc, scripted], ids=lambda factory: factory.__name__)
async def case(request: Any) -> AsyncIterator[Case]:
    async for made in request.param():
        yield made


async def ask(case: Case, *, stream: bool) -> list[InferResult]:
    await case.connection.connect(5)
    return [result async for result in case.connection.infer(REQUEST, CancelScope(5), service="s", stream=stream)]


async def test_connecting_tells_what_the_node_can_do(case: Case) -> None:
    (capability,) = await case.connection.connect(5)
    assert (capability.service_name, capability.tasks[0].name) == ("s", "t")
    await case.connection.check(5)


async def test_a_node_that_takes_no_requests_is_unavailable(case: Case) -> None:
    await case.connection.connect(5)
    await case.refuse()
    with pytest.raises(Unavailable):
        await case.connection.check(5)
    with pytest.raises(Unavailable):
        await case.connection.connect(5)


@pytest.mark.parametrize(("stream", "finals"), [(False, [True]), (True, [False, True])])
async def test_the_last_message_of_a_response_and_no_other_is_final(
    case: Case, stream: bool, finals: list[bool]
) -> None:
    assert [result.is_final for result in await ask(case, stream=stream)] == finals


async def test_an_error_of_the_node_keeps_its_class_and_message(case: Case) -> None:
    case.fail_with(RequestError("wrong in this way"))
    with pytest.raises(RequestError, match="wrong in this way"):
        await ask(case, stream=False)


async def test_closing_fails_running_requests_with_unavailable(case: Case) -> None:
    case.hold()
    running = asyncio.create_task(ask(case, stream=False))
    await asyncio.sleep(0.2)
    assert not running.done()
    await case.connection.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(running, 5)
