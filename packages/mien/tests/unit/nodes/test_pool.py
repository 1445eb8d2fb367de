"""Routing, failures and cooldown, with nodes that are plain objects and a clock that is turned by hand."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import DeadlineExceeded, NodeIncompatible, NodeLost, NotFound, Overloaded, RequestError, Unavailable
from mien.inference.contract import InferRequest, InferResult, Item, TaskInfo
from mien.inference.registry import ServiceRegistry
from mien.nodes.node import Cooldown, State
from mien.nodes.pool import NodePool, PoolOptions
from mien.nodes.remote_services import RemoteService, RemoteServices
from packages.mien.tests.unit.nodes.scripted_connection import ScriptedConnection, capability

REQUEST = InferRequest((Item(b"x", "text/plain"),), "t")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class World:
    """A pool, its clock and its clients by address."""

    def __init__(self, *, on_change: Callable[[NodePool], None] = lambda pool: None, **options: Any) -> None:
        self.clock = Clock()
        self.clients: dict[str, ScriptedConnection] = {}
        self.prepared: dict[str, ScriptedConnection] = {}
        self.pool = NodePool(
            PoolOptions(**{"health": 0.0, **options}), self.connect, clock=self.clock, on_change=on_change
        )

    def connect(self, address: str, source: str) -> ScriptedConnection:
        client = self.clients[address] = self.prepared.get(address) or ScriptedConnection(address)
        return client

    async def add(self, *addresses: str, source: str = "static") -> None:
        for address in addresses:
            self.pool.add(address, source=source)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def state(self, address: str) -> State:
        return next(node.state for node in self.pool.nodes if node.address == address)

    async def ask(self, request: InferRequest = REQUEST) -> str:
        results = [result async for result in self.pool.infer("s", request, CancelScope(5), stream=False)]
        return results[-1].data.decode()


@pytest.fixture
async def world() -> Any:
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield make
    for one in made:
        await one.pool.close()


MakeWorld = Callable[..., World]


async def test_the_node_with_the_fewest_outstanding_requests_is_asked(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1", "b:1", "c:1")
    w.clients["a:1"].release.clear()
    waiting = asyncio.create_task(w.ask())
    await w.settle()
    assert sorted([await w.ask() for _ in range(4)]) == ["b:1", "b:1", "c:1", "c:1"]
    w.clients["a:1"].release.set()
    assert await waiting == "a:1"
    assert await w.ask() == "a:1"  # all idle: the longest unused


async def test_a_failed_node_cools_down_and_its_request_goes_to_another(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1", "b:1")
    w.clients["a:1"].failure = Unavailable("gone")
    assert [await w.ask() for _ in range(9)] == ["b:1"] * 9
    assert w.clients["a:1"].asked == 3
    w.clients["a:1"].failure = None
    w.clock.now += 9.9
    assert await w.ask() == "b:1"
    w.clock.now += 0.2
    assert await w.ask() == "a:1"
    failed, fine = (node.stats for node in w.pool.nodes)
    assert (failed.requests, failed.failures, failed.successes, fine.successes) == (4, 3, 1, 10)


def test_the_cooldown_doubles_to_its_most_and_success_clears_it() -> None:
    cooldown, now, seen = Cooldown(10, 120), 0.0, []
    for _ in range(8):
        cooldown.failed(now, now)
        cooldown.failed(now - 1, now)  # a request that ran beside the first
        seen.append(cooldown.left(now))
        now += cooldown.left(now)
    assert seen == [0, 0, 10, 20, 40, 80, 120, 120]
    cooldown.cleared()
    for _ in range(3):
        assert cooldown.left(now) == 0
        cooldown.failed(now, now)
    assert cooldown.left(now) == 10


async def test_what_a_node_cannot_do_now_takes_only_that_task_from_it(world: MakeWorld) -> None:
    w = world()
    client = w.prepared["a:1"] = ScriptedConnection("a:1")
    client.capabilities = (capability("s", "t", "u"),)
    await w.add("a:1")
    client.failure = Unavailable("the model is being loaded")
    for _ in range(3):
        with pytest.raises(Unavailable, match="loaded"):
            await w.ask()
    client.failure = None
    with pytest.raises(Unavailable, match="no node takes requests"):
        await w.ask()
    assert await w.ask(InferRequest((Item(b"x", "text/plain"),), "u")) == "a:1"
    client.failure = NodeLost("the connection broke")
    for _ in range(3):
        with pytest.raises(NodeLost):
            await w.ask(InferRequest((Item(b"x", "text/plain"),), "u"))
    client.failure = None
    w.clock.now += 9
    for task in ("t", "u"):
        with pytest.raises(Unavailable, match="no node takes requests"):
            await w.ask(InferRequest((Item(b"x", "text/plain"),), task))


async def test_a_success_between_failures_keeps_a_node_in_use(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1")
    for _ in range(5):
        for failure in (NodeLost("gone"), NodeLost("gone")):
            w.clients["a:1"].failure = failure
            with pytest.raises(Unavailable, match="gone"):
                await w.ask()
        w.clients["a:1"].failure = None
        assert await w.ask() == "a:1"


# --- as many at once as a node advertises


async def busy(w: World, count: int) -> list["asyncio.Task[str]"]:
    """So many requests to the pool, whose nodes answer none yet."""
    for client in w.clients.values():
        client.release.clear()
    asked = [asyncio.create_task(w.ask()) for _ in range(count)]
    await w.settle()
    return asked


def allow(w: World) -> None:
    for client in w.clients.values():
        client.release.set()


async def test_a_node_gets_no_more_requests_at_once_than_it_advertises(world: MakeWorld) -> None:
    w = world()
    client = w.prepared["a:1"] = ScriptedConnection("a:1", concurrency=3)
    await w.add("a:1")
    asked = await busy(w, 20)
    assert client.asked == client.most == 3
    allow(w)
    assert await asyncio.gather(*asked) == ["a:1"] * 20
    assert client.most == 3
    assert w.pool.nodes[0].outstanding == 0


async def test_requests_wait_in_the_order_in_which_they_came(world: MakeWorld) -> None:
    w = world()
    w.prepared["a:1"] = ScriptedConnection("a:1", concurrency=1)
    await w.add("a:1")
    order: list[int] = []
    asked = await busy(w, 5)
    for number, task in enumerate(asked):
        task.add_done_callback(lambda _, number=number: order.append(number))
    allow(w)
    await asyncio.gather(*asked)
    assert order == [0, 1, 2, 3, 4]


async def test_a_request_that_waits_in_vain_ends_at_its_deadline_or_with_its_caller(world: MakeWorld) -> None:
    w = world()
    client = w.prepared["a:1"] = ScriptedConnection("a:1", concurrency=1)
    await w.add("a:1")
    asked = await busy(w, 1)
    with pytest.raises(DeadlineExceeded):
        [one async for one in w.pool.infer("s", REQUEST, CancelScope(0.02), stream=False)]
    gone = asyncio.create_task(w.ask())
    await w.settle()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    allow(w)
    assert await asyncio.gather(*asked) == ["a:1"]
    assert await w.ask() == "a:1"
    assert client.asked == 2


async def test_a_node_that_leaves_ends_the_wait_for_it(world: MakeWorld) -> None:
    w = world()
    w.prepared["a:1"] = ScriptedConnection("a:1", concurrency=1)
    await w.add("a:1")
    asked = await busy(w, 3)
    await w.pool.remove("static@a:1")
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable, NotFound, NotFound]


async def test_beyond_the_limit_of_waiting_requests_the_answer_says_when_to_come_back(world: MakeWorld) -> None:
    w = world(waiting=2)
    w.prepared["a:1"] = ScriptedConnection("a:1", concurrency=1)
    await w.add("a:1")
    asked = await busy(w, 3)
    w.pool.nodes[0].stats.latency = 4.0
    with pytest.raises(Overloaded, match="2 requests wait") as refused:
        await w.ask()
    assert refused.value.retry_after == 8
    allow(w)
    await asyncio.gather(*asked)


@pytest.mark.parametrize("refuses", [False, True])
async def test_when_twice_as_many_as_the_nodes_take_have_come_the_local_service_steps_in(
    world: MakeWorld, refuses: bool
) -> None:
    registry = ServiceRegistry(prefer_remote=True)
    local = Local()
    local.refuses = refuses
    registry.add(local)
    w = world(on_change=RemoteServices(registry).update)
    w.prepared["a:1"] = ScriptedConnection("a:1", concurrency=2)
    await w.add("a:1")
    service = registry.resolve("s")

    async def ask() -> bytes:
        return [one async for one in service.infer(REQUEST, CancelScope(5), stream=False)][-1].data

    w.clients["a:1"].release.clear()
    asked = [asyncio.create_task(ask()) for _ in range(7)]
    await w.settle()
    assert [task.done() for task in asked] == [False] * 4 + [not refuses] * 3
    allow(w)
    found = await asyncio.gather(*asked)
    assert found == [b"a:1"] * 4 + [b"a:1" if refuses else b"local"] * 3


async def test_the_local_service_steps_in_for_a_node_that_fails_before_its_first_message(world: MakeWorld) -> None:
    registry = ServiceRegistry(prefer_remote=True)
    registry.add(Local())
    w = world(on_change=RemoteServices(registry).update)
    await w.add("a:1")
    client, service = w.clients["a:1"], registry.resolve("s")
    client.failure = Unavailable("gone")
    assert [one.data async for one in service.infer(REQUEST, CancelScope(5), stream=False)] == [b"local"]
    client.late = True
    with pytest.raises(Unavailable, match="gone"):
        [one async for one in service.infer(REQUEST, CancelScope(5), stream=False)]


async def test_nothing_is_retried_once_something_was_streamed(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1", "b:1")
    w.clients["a:1"].late = True
    w.clients["a:1"].failure = Unavailable("gone")
    with pytest.raises(Unavailable, match="gone"):
        await w.ask()
    assert w.clients["b:1"].asked == 0


async def test_wrong_requests_and_other_failures_are_not_retried_and_cool_nothing(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1", "b:1")
    w.clients["a:1"].failure = RequestError("wrong")
    with pytest.raises(RequestError, match="wrong"):
        await w.ask()
    assert w.clients["b:1"].asked == 0
    assert w.pool.nodes[0].usable(w.clock())


async def test_an_overloaded_node_is_passed_over_without_a_cooldown(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1", "b:1")
    w.clients["a:1"].failure = Overloaded("busy", retry_after=3)
    assert await w.ask() == "b:1"
    assert w.pool.nodes[0].usable(w.clock())
    w.clients["b:1"].failure = Overloaded("busy", retry_after=4)
    with pytest.raises(Overloaded):
        await w.ask()


async def test_while_all_cool_down_the_answer_says_when_to_come_back(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1")
    w.clients["a:1"].failure = Unavailable("gone")
    for _ in range(3):
        with pytest.raises(Unavailable, match="gone"):
            await w.ask()
    w.clock.now += 4
    with pytest.raises(Unavailable, match="no node takes requests") as refused:
        await w.ask()
    assert refused.value.retry_after == pytest.approx(6)


async def test_requests_go_by_task_to_nodes_that_have_it(world: MakeWorld) -> None:
    w = world()
    other = w.prepared["b:1"] = ScriptedConnection("b:1")
    other.capabilities = (capability("s", "u"),)
    await w.add("a:1", "b:1")
    asked = InferRequest((Item(b"x", "text/plain"),), " U ")
    assert [await w.ask(asked) for _ in range(3)] == ["b:1"] * 3
    with pytest.raises(NotFound):
        await w.ask(InferRequest((Item(b"x", "text/plain"),), "v"))
    assert [task.name for task in RemoteService(w.pool, "s", ServiceRegistry()).tasks()] == ["u", "t"]


async def test_another_protocol_is_never_routed_and_says_why(world: MakeWorld) -> None:
    w = world()
    old = w.prepared["a:1"] = ScriptedConnection("a:1")
    old.unwell = NodeIncompatible("speaks 2.0")
    await w.add("a:1")
    assert w.state("a:1") is State.INCOMPATIBLE
    assert [node.reason for node in w.pool.nodes] == ["speaks 2.0"]
    with pytest.raises(NotFound):
        await w.ask()


async def test_an_unreachable_node_is_unavailable_and_keeps_its_services(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1")
    w.clients["a:1"].unwell = w.clients["a:1"].failure = Unavailable("gone")
    with pytest.raises(Unavailable):
        await w.ask()
    await w.settle()
    assert w.state("a:1") is State.UNAVAILABLE
    assert w.pool.service_names() == ["s"]
    assert not w.pool.is_ready("s")


async def test_found_nodes_are_limited_and_known_once(world: MakeWorld) -> None:
    w = world(limit=2)
    await w.add("a:1")
    await w.add("a:1", "b:1", "c:1", source="mdns")
    assert [node.id for node in w.pool.nodes] == ["static@a:1", "mdns@b:1"]


async def test_a_removed_node_is_closed(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1")
    await w.pool.remove("static@a:1")
    assert w.clients["a:1"].closed
    assert w.pool.nodes == []


async def test_what_a_node_did_is_counted(world: MakeWorld) -> None:
    w = world()
    await w.add("a:1")
    await w.ask()
    (node,) = w.pool.nodes
    assert (node.stats.requests, node.stats.successes, node.stats.failures) == (1, 1, 0)
    assert node.stats.latency > 0
    assert node.stats.last is not None


class Local:
    name = "s"
    refuses = False

    def tasks(self) -> list[TaskInfo]:
        return [TaskInfo("t", (), ())]

    async def infer(
        self, request: InferRequest, call: CancelScope, *, stream: bool
    ) -> AsyncGenerator[InferResult, None]:
        if self.refuses:
            raise Overloaded("the queue is full")
        yield InferResult(b"local", is_final=True)


@pytest.mark.parametrize("prefer_remote", [False, True])
async def test_local_services_win_unless_remote_ones_are_preferred_and_there(
    world: MakeWorld, prefer_remote: bool
) -> None:
    registry = ServiceRegistry(prefer_remote=prefer_remote)
    registry.add(Local())
    w = world(on_change=RemoteServices(registry).update)
    client = w.prepared["a:1"] = ScriptedConnection("a:1")
    client.capabilities = (capability("s"), capability("only_there", "o"))
    await w.add("a:1")
    assert isinstance(registry.resolve("s"), RemoteService) is prefer_remote
    assert isinstance(registry.resolve("only_there"), RemoteService)
    assert registry.for_task("o")[0].name == "only_there"
    w.clients["a:1"].unwell = w.clients["a:1"].failure = Unavailable("gone")
    with pytest.raises(Unavailable):
        await w.ask()
    await w.settle()
    assert isinstance(registry.resolve("s"), Local)
    assert isinstance(registry.resolve("only_there"), RemoteService)
    await w.pool.remove("static@a:1")
    with pytest.raises(NotFound):
        registry.resolve("only_there")
