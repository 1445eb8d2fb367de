"""Nodes that are none of ours: older protocols, in-band errors, other ways of streaming; and keys on our own."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.empty_pb2 import Empty

from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.errors import MienError, NodeFailed, NodeIncompatible, Overloaded, RequestError, Unavailable
from mien.inference.contract import InferRequest as Asked
from mien.inference.contract import InferResult, Item, TaskInfo
from mien.keys import FileKeyStore
from mien.nodes.client import NodeClient
from mien.nodes.contract import INFER, SERVICE
from mien.nodes.proto.inference_pb2 import Capability, Error, InferRequest, InferResponse, IOTask
from mien.nodes.server import NodeServer, node_access
from mien.quotas import FileOwnerStore, Quotas
from mien.settings import Settings

TASKS = [IOTask(name="t"), IOTask(name="t_stream")]


@asynccontextmanager
async def foreign_node(
    *answers: InferResponse,
    version: str = "1.0",
    streams: bool = True,
    ends: bool = True,
    max_bytes: int = 256 * 1024 * 1024,
) -> AsyncIterator[tuple[NodeClient, list[InferRequest]]]:
    """A client of a node that answers every request with `answers`, and what the node received."""
    received: list[InferRequest] = []
    capability = Capability(service_name="s", protocol_version=version, tasks=TASKS)

    async def infer(messages: AsyncIterator[InferRequest], context: Any) -> AsyncGenerator[InferResponse, None]:
        async for message in messages:
            received.append(message)
        for answer in answers:
            yield answer
        if not ends:
            await asyncio.sleep(30)

    async def get(request: Empty, context: Any) -> Capability:
        return capability

    async def stream(request: Empty, context: Any) -> AsyncGenerator[Capability, None]:
        yield capability

    read, write = Empty.FromString, Capability.SerializeToString
    handlers = {
        "Infer": grpc.stream_stream_rpc_method_handler(
            infer, InferRequest.FromString, _serialized
        ),
        "GetCapabilities": grpc.unary_unary_rpc_method_handler(get, read, write),
    }  # fmt: skip
    if streams:
        handlers["StreamCapabilities"] = grpc.unary_stream_rpc_method_handler(stream, read, write)
    handlers["Health"] = grpc.unary_unary_rpc_method_handler(_alive, read, Empty.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = NodeClient(f"127.0.0.1:{port}", max_bytes=max_bytes)
    try:
        yield client, received
    finally:
        await client.close()
        await server.stop(None)


def _serialized(answer: InferResponse | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


async def _alive(request: Empty, context: Any) -> Empty:
    return request


async def ask(client: NodeClient, *, stream: bool = False, items: int = 1, data: bytes = b"x") -> list[InferResult]:
    await client.connect(5)
    request = Asked((Item(data, "text/plain"),) * items, "t")
    return [result async for result in client.infer(request, CancelScope(5), service="s", stream=stream)]


@pytest.mark.parametrize("version", ["", "2.0", "0.9", "one"])
async def test_another_major_version_is_incompatible(version: str) -> None:
    async with foreign_node(version=version) as (client, _):
        with pytest.raises(NodeIncompatible, match="this server speaks 1"):
            await client.connect(5)


@pytest.mark.parametrize("version", ["1.0", "1.0.0", "v1.2-rc", "1"])
async def test_any_minor_version_is_compatible_also_without_streamed_capabilities(version: str) -> None:
    async with foreign_node(version=version, streams=False) as (client, _):
        (capability,) = await client.connect(5)
        assert capability.service_name == "s"
        await client.check(5)  # it has no grpc.health.v1
        assert not client.is_mien


async def test_in_band_errors_are_errors() -> None:
    answer = InferResponse(is_final=True, error=Error(code=1, message="no such label", detail="d"))  # type: ignore[arg-type]
    async with foreign_node(answer) as (client, _):
        with pytest.raises(RequestError, match="no such label"):
            await ask(client)


async def test_streaming_asks_for_the_streaming_task_and_names_the_service() -> None:
    parts = [InferResponse(result=b"part%d" % i, seq=i, total=3, is_final=i == 2) for i in range(3)]
    async with foreign_node(*parts) as (client, received):
        results = await ask(client, stream=True)
        assert [(r.data, r.seq, r.total, r.is_final) for r in results] == [
            (b"part0", 0, 3, False), (b"part1", 1, 3, False), (b"part2", 2, 3, True),
        ]  # fmt: skip
        assert [(m.task, m.seq, m.total, m.offset, dict(m.meta)) for m in received] == [
            ("t_stream", 0, 0, 0, {"service": "s"})
        ]


async def test_pieces_of_a_foreign_result_are_joined() -> None:
    pieces = [
        InferResponse(result=b"abc"[i : i + 1], seq=i, total=3, offset=i, is_final=i == 2, result_schema="s")
        for i in range(3)
    ]
    async with foreign_node(*pieces) as (client, _):
        (result,) = await ask(client)
        assert (result.data, result.schema, result.is_final) == (b"abc", "s", True)


async def test_pieces_that_make_no_whole_are_the_nodes_failure() -> None:
    pieces = [InferResponse(result=b"a", seq=0, total=3), InferResponse(result=b"c", seq=2, total=3, is_final=True)]
    async with foreign_node(*pieces) as (client, _):
        with pytest.raises(NodeFailed, match="expected seq 1 of 3, got seq 2"):
            await ask(client)


def final(**fields: Any) -> InferResponse:
    return InferResponse(is_final=True, **fields)


TENSOR = {"lumen.output.kind": "tensor", "lumen.output.tensor.dtype": "fp32", "lumen.output.tensor.shape": "[2,3]"}
DAMAGED = {
    "no message": ([], "without a final message"),
    "no final message": ([InferResponse(result=b"a"), InferResponse(result=b"b")], "without a final message"),
    "another request's answer": ([final(result=b"a", correlation_id="other")], "another request, 'other'"),
    "a message after the final one": ([final(result=b"a"), InferResponse(result=b"b")], "went on after the final"),
    "two final messages": ([final(result=b"a"), final(result=b"b")], "went on after the final"),
    "a hole among chunks": (
        [InferResponse(result=b"a", seq=0, total=3), final(result=b"c", seq=2, total=3, offset=2)],
        "expected seq 1 of 3, got seq 2",
    ),
    "a chunk twice": (
        [InferResponse(result=b"a", seq=0, total=2), InferResponse(result=b"a", seq=0, total=2)],
        "expected seq 1 of 2, got seq 0",
    ),
    "chunks of different totals": (
        [InferResponse(result=b"a", seq=0, total=2), final(result=b"b", seq=1, total=3, offset=1)],
        "totals differ",
    ),
    "fewer chunks than announced": ([final(result=b"a", seq=0, total=2)], "expected 2 chunks, got 1"),
    "more chunks than announced": (
        [InferResponse(result=b"a", seq=i, total=2, offset=i) for i in range(3)],
        "expected seq 0 of 2, got seq 2",
    ),
    "a chunk of endlessly many": ([InferResponse(result=b"a", total=2**50)], "at most 65536"),
    "an offset of no chunk": ([final(result=b"a", offset=7)], "begins at offset 7"),
    "a tensor of another size": ([final(result=b"x" * 23, meta=TENSOR)], r"shape \[2, 3\] has 24 bytes; 23 came"),
    "a tensor of no shape": (
        [final(result=b"x" * 24, meta={**TENSOR, "lumen.output.tensor.shape": "six"})],
        "without a shape",
    ),
    "a tensor of a negative shape": (
        [final(result=b"x" * 24, meta={**TENSOR, "lumen.output.tensor.shape": "[-2,-3]"})],
        "without a shape",
    ),
    "a tensor of numbers too long to print": (
        [final(result=b"x" * 24, meta={**TENSOR, "lumen.output.tensor.shape": f"[1{'0' * 4000},1{'0' * 4000}]"})],
        "without a shape",
    ),
    "a tensor of endlessly many dimensions": (
        [final(result=b"x" * 24, meta={**TENSOR, "lumen.output.tensor.shape": f"[9{',9' * 9000}]"})],
        "without a shape",
    ),
    "endless meta": ([final(result=b"a", meta={"k": "v" * 70_000})], "bytes of meta"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_damaged_response_is_the_nodes_failure(damage: str, stream: bool) -> None:
    answers, words = DAMAGED[damage]
    async with foreign_node(*answers) as (client, _):
        with pytest.raises(NodeFailed, match=words):
            await ask(client, stream=stream)


async def test_a_stream_with_a_hole_or_a_result_twice_is_the_nodes_failure() -> None:
    for seqs in ([0, 2, 3], [0, 1, 1, 2], [1, 2], [0, 0, 2]):
        answers = [InferResponse(result=b"a", seq=seq, is_final=seq == max(seqs)) for seq in seqs]
        async with foreign_node(*answers) as (client, _):
            with pytest.raises(NodeFailed, match="expected seq"):
                await ask(client, stream=True)


async def test_results_may_be_numbered_or_not() -> None:
    for seqs in ([0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 0]):
        answers = [InferResponse(result=b"a", seq=seq, is_final=at == 3) for at, seq in enumerate(seqs)]
        async with foreign_node(*answers) as (client, _):
            assert len(await ask(client, stream=True)) == 4


async def test_a_tensor_of_its_size_is_passed_on() -> None:
    async with foreign_node(final(result=b"x" * 24, meta=TENSOR)) as (client, _):
        assert (await ask(client))[0].data == b"x" * 24


@pytest.mark.parametrize("stream", [False, True])
async def test_a_result_over_the_limit_is_the_nodes_failure(stream: bool) -> None:
    large = final(result=b"x" * 3_000_000)
    pieces = [
        InferResponse(
            result=b"x" * 900_000, seq=i, total=4, offset=i * 900_000, is_final=i == 3, meta={"lumen.chunked": "true"}
        )
        for i in range(4)
    ]
    for answers in ([large], pieces):
        async with foreign_node(*answers, max_bytes=1_000_000) as (client, _):
            with pytest.raises(NodeFailed, match="limit of 1000000 bytes"):
                await ask(client, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_is_no_protobuf_is_the_nodes_failure(stream: bool, caplog: Any) -> None:
    async with foreign_node(b"\xff\xff\xff") as (client, _):  # type: ignore[arg-type]
        with pytest.raises(NodeFailed, match=r"not a valid home_native\.v1\.InferResponse"):
            await ask(client, stream=stream)
    assert "Traceback" not in caplog.text


async def test_a_node_that_does_not_end_its_stream_is_not_waited_for() -> None:
    async with foreign_node(InferResponse(result=b"a", is_final=True), ends=False) as (client, _):
        await client.connect(5)
        started = time.monotonic()
        assert (await ask(client))[0].data == b"a"
        assert time.monotonic() - started < 10


async def test_several_payloads_are_refused_for_a_node_that_takes_one() -> None:
    async with foreign_node(InferResponse(is_final=True)) as (client, _):
        with pytest.raises(RequestError, match="one payload per request"):
            await ask(client, items=2)


async def test_a_node_that_refuses_while_the_request_is_sent_has_its_reason() -> None:
    async def refuse(messages: AsyncIterator[InferRequest], context: Any) -> None:
        await anext(messages)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much for this node")

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        refuse, InferRequest.FromString, InferResponse.SerializeToString
    )  # fmt: skip
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Infer": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = NodeClient(f"127.0.0.1:{port}")
    request = Asked((Item(b"x" * 8_000_000, "text/plain"),), "t")
    try:
        for _ in range(10):
            with pytest.raises(Overloaded, match="too much for this node"):
                _ = [result async for result in client.infer(request, CancelScope(20), stream=False)]
    finally:
        await client.close()
        await server.stop(None)


class Echo:
    name = "s"

    def tasks(self) -> Sequence[TaskInfo]:
        return [TaskInfo("t", (), ())]

    async def infer(self, request: Asked, call: CancelScope, *, stream: bool) -> AsyncGenerator[InferResult, None]:
        yield InferResult(request.items[0].data, is_final=True)


@asynccontextmanager
async def own_node(**options: Any) -> AsyncIterator[tuple[NodeServer, str]]:
    server = NodeServer(lambda: [Echo()], **options)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop(1)


async def test_a_node_with_keys_asks_for_one(tmp_path: Path) -> None:
    keys = FileKeyStore(tmp_path)
    _, secret = keys.create("gateway", ["infer"])
    _, admin = keys.create("other", ["admin"])
    async with own_node(access=node_access(keys, open_without_keys=True)) as (server, address):
        await server.set_ready()
        for key, words in ((None, "requires an API key"), ("mien_wrong", "unknown"), (admin, "lacks the scope")):
            client = NodeClient(address, key=key)
            with pytest.raises(NodeFailed, match=words):
                await client.connect(5)
            await client.close()
        client = NodeClient(address, key=secret)
        assert (await ask(client))[0].data == b"x"
        await client.close()


async def _many(client: NodeClient) -> None:
    for _ in range(20):  # of 20 requests, two are less than a second apart
        await ask(client)


async def test_a_node_counts_each_request_into_its_owner_s_quotas(tmp_path: Path) -> None:
    keys, owners = FileKeyStore(tmp_path), FileOwnerStore(tmp_path)
    secrets = {owner: keys.create(owner, ["infer"], owner)[1] for owner in ("a", "b")}
    access, quotas = node_access(keys, open_without_keys=True), Quotas(Settings().quotas, owners)
    async with own_node(access=access, quotas=quotas) as (server, address):
        await server.set_ready()
        clients = {owner: NodeClient(address, key=secret) for owner, secret in secrets.items()}
        for limit, words in (
            ({"images": 0}, "images inside"),
            ({"images": None, "requests": 1}, "requests per second"),
        ):
            owners.set("a", limit)
            with pytest.raises(Overloaded, match=f"quota of {words}: the owner 'a' may have"):
                await _many(clients["a"])
            assert (await ask(clients["b"]))[0].data == b"x"
        for client in clients.values():
            await client.close()


def test_beyond_loopback_nobody_is_let_in_without_keys(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="none exists any more"):
        node_access(FileKeyStore(tmp_path), open_without_keys=False).require("", "infer")
    node_access(FileKeyStore(tmp_path), open_without_keys=True).require("", "infer")


async def test_a_node_that_is_not_ready_says_so_whatever_the_size() -> None:
    async with own_node() as (server, address):
        client = NodeClient(address)
        with pytest.raises(Unavailable, match="not ready"):
            await client.connect(5)
        with pytest.raises(Unavailable, match="starting or stopping"):
            await client.check(5)
        request = Asked((Item(b"x" * 8_000_000, "text/plain"),), "t")
        with pytest.raises(Unavailable, match="not ready"):
            _ = [result async for result in client.infer(request, CancelScope(5), stream=False)]
        await server.set_ready()
        assert (await ask(client))[0].data == b"x"
        await client.close()


async def test_payloads_and_the_bodies_of_http_are_counted_together() -> None:
    admission = Admission(max_images=1, max_bytes=2000)
    async with own_node(admission=admission) as (server, address):
        await server.set_ready()
        client = NodeClient(address)
        with admission.body(1500):
            with pytest.raises(Overloaded, match="1500 bytes of requests are in progress; 600 more would exceed"):
                await ask(client, data=b"x" * 600)
            assert len(await ask(client, data=b"x" * 400)) == 1
        assert len(await ask(client, data=b"x" * 600)) == 1
        assert admission.idle
        await client.close()


async def test_nothing_is_held_after_any_sequence_of_messages() -> None:
    chance = random.Random(7)
    async with own_node(admission=Admission(max_images=1, max_bytes=2000), max_bytes=1000, idle=0.3) as (
        server,
        address,
    ):
        await server.set_ready()
        async with grpc.aio.insecure_channel(address) as channel:
            method: Callable[..., Any] = channel.stream_stream(
                INFER, InferRequest.SerializeToString, InferResponse.FromString
            )
            for _ in range(60):
                stream = method(timeout=5)
                try:
                    for _ in range(chance.randint(1, 6)):
                        await stream.write(
                            InferRequest(
                                task=chance.choice(["t", "nope"]),
                                payload=b"x" * chance.choice([0, 10, 400, 1200]),
                                correlation_id=chance.choice("ab"),
                                seq=chance.choice([0, 1]),
                                total=chance.choice([0, 1, 2]),
                                offset=chance.choice([0, 10]),
                            )
                        )
                    match chance.choice(["close", "cancel", "stay"]):
                        case "close":
                            await stream.done_writing()
                        case "cancel":
                            stream.cancel()
                    async for _ in stream:
                        pass
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                    pass  # refused, or cancelled by us
                await stream.code()
        await server.limits.quiet.wait()
        assert (server.limits.admission.bytes, server.limits.running) == (0, 0)
