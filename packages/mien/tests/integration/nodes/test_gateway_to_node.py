"""A gateway's requests to a real node in another process."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from mien.engine.cancellation import CancelScope
from mien.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    ImageError,
    MienError,
    NodeFailed,
    NotFound,
    Overloaded,
    Unavailable,
)
from mien.inference.contract import InferRequest, Item
from mien.nodes.client import Chunking, NodeClient
from mien.nodes.node import State


async def test_a_request_is_answered_with_its_whole_result(node: Any, pool: Any, ask: Any) -> None:
    async with pool(node) as nodes:
        (result,) = await ask(nodes, "echo", b"hello", colour="red")
        assert (result.data, result.mime, result.schema) == (b"hello", "application/json;schema=echo_v1", "echo_v1")
        assert result.is_final
        assert result.meta["colour"] == "red"
        assert (result.meta["correlation"], result.meta["mime"], result.meta["stream"]) == (
            "corr-1",
            "text/plain",
            "False",
        )


async def test_a_stream_comes_message_by_message(node: Any, pool: Any) -> None:
    async with pool(node) as nodes:
        request = InferRequest((Item(b"x", "text/plain"),), "", {"steps": "4", "pause": "0.15"})
        delays = []
        seqs = []
        async for result in nodes.infer("steps", request, CancelScope(10), stream=True):
            seqs.append((result.seq, result.is_final))
            delays.append(time.time() - float(result.data.split()[-1]))
        assert seqs == [(0, False), (1, False), (2, False), (3, True)]
        assert sorted(delays)[1] < 0.1  # half of them: the machine may be busy for a moment


async def test_without_stream_only_the_final_message_comes(node: Any, pool: Any, ask: Any) -> None:
    async with pool(node) as nodes:
        (result,) = await ask(nodes, "steps", steps="4", pause="0")
        assert result.data.startswith(b"step 3")


@pytest.mark.parametrize("stream", [False, True])
async def test_five_megabytes_go_in_pieces_and_come_back_in_pieces(
    node: Any, pool: Any, ask: Any, stream: bool
) -> None:
    payload = os.urandom(5_000_000)
    async with pool(node) as nodes:
        (result,) = await ask(nodes, "echo", payload, mime="application/octet-stream", stream=stream)
        assert result.data == payload
        assert "lumen.chunked" not in result.meta
        assert (result.is_final, result.total) == (True, 0)


async def test_a_payload_that_a_node_refuses_while_it_is_sent_has_its_reason(node: Any, pool: Any, ask: Any) -> None:
    async with pool(node) as nodes:
        for _ in range(5):
            with pytest.raises(BodyTooLarge, match="limit of 16777216 bytes"):
                await ask(nodes, "echo", b"x" * 30_000_000)
        assert nodes.nodes[0].state is State.READY


async def test_a_batch_reaches_a_node_of_ours(node: Any, pool: Any) -> None:
    async with pool(node) as nodes:
        request = InferRequest((Item(b"one", "text/plain"), Item(b"two", "text/plain")), "echo_v1")
        (result,) = [one async for one in nodes.infer("echo", request, CancelScope(5), stream=False)]
        assert (result.data, result.meta["items"]) == (b"onetwo", "2")


async def test_without_automatic_chunks_a_large_payload_is_one_message(node: Any) -> None:
    client = NodeClient(node.address, chunking=Chunking(auto=False))
    try:
        await client.connect(5)
        request = InferRequest((Item(b"x" * 6_000_000, "text/plain"),), "echo_v1")
        (result,) = [one async for one in client.infer(request, CancelScope(10), stream=False)]
        assert len(result.data) == 6_000_000
    finally:
        await client.close()


async def test_old_names_of_a_task_work(node: Any, pool: Any, ask: Any) -> None:
    async with pool(node) as nodes:
        (result,) = await ask(nodes, "echo", task="old_echo")
        assert result.meta["task"] == "old_echo"
        assert [task.name for task in nodes.tasks("echo")] == ["echo_v1", "old_echo"]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("invalid", ImageError, "these are no pixels"),
        ("missing", NotFound, "no such thing"),
        ("busy", Overloaded, "too much"),
        ("bug", NodeFailed, "the node failed"),
        ("nothing", NodeFailed, "without a final message"),
        ("away", Unavailable, "loading"),
    ],
)
@pytest.mark.parametrize("late", ["", "1"])
async def test_errors_are_what_the_node_would_have_answered(
    node: Any, pool: Any, ask: Any, kind: str, error: type[MienError], message: str, late: str
) -> None:
    async with pool(node) as nodes:
        with pytest.raises(error, match=message) as caught:
            await ask(nodes, "failing", kind=kind, late=late, stream=bool(late))
        assert caught.value.status == error.status
        if kind == "busy":
            assert caught.value.retry_after == 7


async def test_an_unknown_task_is_not_found(node: Any, pool: Any, ask: Any) -> None:
    async with pool(node) as nodes:
        with pytest.raises(NotFound):
            await ask(nodes, "echo", task="nope")
        with pytest.raises(NotFound):
            await ask(nodes, "nope")


async def test_the_deadline_reaches_the_node(own_node: Any, pool: Any, ask: Any) -> None:
    async with pool(own_node) as nodes:
        (result,) = await ask(nodes, "echo", seconds=9)
        assert 7 < float(result.meta["patience"]) <= 9
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await ask(nodes, "steps", silent="30", seconds=0.5)
        assert time.monotonic() - started < 10
        own_node.wait_for("cancelled", 10)
        assert nodes.nodes[0].state is State.READY


async def test_a_cancel_reaches_the_node_within_a_second(own_node: Any, pool: Any, ask: Any) -> None:
    async with pool(own_node) as nodes:
        call = CancelScope(30)
        asking = asyncio.create_task(ask(nodes, "steps", silent="20", call=call))
        await asyncio.to_thread(own_node.wait_for, "began")
        at = time.time()
        call.cancel()
        with pytest.raises(MienError) as caught:
            await asking
        assert caught.value.status == 499
        assert await asyncio.to_thread(own_node.wait_for, "told") - at < 1
        assert nodes.nodes[0].outstanding == 0


async def test_a_client_that_leaves_mid_stream_cancels_the_node_within_a_second(own_node: Any, pool: Any) -> None:
    async with pool(own_node) as nodes:
        request = InferRequest((Item(b"x", "text/plain"),), "", {"steps": "1000", "pause": "0.05"})
        results = nodes.infer("steps", request, CancelScope(60), stream=True)
        assert (await anext(results)).seq == 0
        at = time.time()
        await results.aclose()
        assert await asyncio.to_thread(own_node.wait_for, "told") - at < 1
        assert await asyncio.to_thread(own_node.wait_for, "cancelled") - at < 1


async def test_a_killed_node_fails_its_stream_leaves_and_comes_back(
    start_node: Callable[..., Any], pool: Any, reach: Any, ask: Any
) -> None:
    node = start_node()
    async with pool(node) as nodes:
        known = nodes.nodes[0]
        request = InferRequest((Item(b"x", "text/plain"),), "", {"steps": "1000", "pause": "0.05"})
        results = nodes.infer("steps", request, CancelScope(60), stream=True)
        assert (await anext(results)).seq == 0
        at = time.monotonic()
        node.kill()
        with pytest.raises(Unavailable):
            async for _ in results:
                pass
        assert time.monotonic() - at < 2
        assert await reach(known, State.UNAVAILABLE) < 2
        with pytest.raises(Unavailable) as refused:
            await ask(nodes, "echo")
        assert refused.value.retry_after is not None
        start_node("again", node.port)
        assert await reach(known, State.READY) < 40
        (result,) = await ask(nodes, "echo")
        assert result.meta["node"] == "again"


async def test_a_node_that_is_stopped_ends_what_runs_and_refuses_the_rest(
    start_node: Callable[..., Any], pool: Any, ask: Any
) -> None:
    node = start_node()
    async with pool(node) as nodes:
        running = asyncio.create_task(ask(nodes, "steps", silent="1"))
        await asyncio.to_thread(node.wait_for, "began")
        stopping = asyncio.create_task(asyncio.to_thread(node.stop))
        await asyncio.sleep(0.3)
        with pytest.raises(Unavailable):
            await ask(nodes, "echo")
        (result,) = await running
        assert result.data.startswith(b"step 2")
        assert await stopping == 0


async def test_two_nodes_share_by_outstanding_requests(start_node: Callable[..., Any], pool: Any, ask: Any) -> None:
    one, two = start_node("one"), start_node("two")
    async with pool(one, two) as nodes:
        slow = [asyncio.create_task(ask(nodes, "steps", steps="1", silent="1")) for _ in range(6)]
        await asyncio.sleep(0.2)
        assert [known.outstanding for known in nodes.nodes] == [3, 3]
        first = (await slow[0])[0].meta["node"]
        await asyncio.gather(*slow)
        served = [(await ask(nodes, "echo"))[0].meta["node"] for _ in range(4)]
        assert sorted(served) == ["one", "one", "two", "two"]
        assert first in ("one", "two")


async def test_another_node_answers_when_one_dies_before_its_first_message(
    start_node: Callable[..., Any], pool: Any, ask: Any
) -> None:
    one, two = start_node("one"), start_node("two")
    async with pool(one, two, health=60) as nodes:
        running = [asyncio.create_task(ask(nodes, "steps", steps="1", silent="0.6")) for _ in range(2)]
        await asyncio.to_thread(one.wait_for, "began")
        one.kill()
        answers = await asyncio.gather(*running)
        assert [answer[0].meta["node"] for answer in answers] == ["two", "two"]
        stats = {known.address: known.stats for known in nodes.nodes}
        assert (stats[one.address].failures, stats[two.address].successes) == (1, 2)


async def test_the_pool_tells_of_changes(start_node: Callable[..., Any], pool: Any) -> None:
    one, two = start_node("one"), start_node("two")
    async with pool(one) as nodes:
        changes = nodes.changes()
        assert [known.id for known in await anext(changes)] == [f"static@{one.address}"]
        nodes.add(two.address)
        assert len(await asyncio.wait_for(anext(changes), 2)) == 2
        await changes.aclose()
