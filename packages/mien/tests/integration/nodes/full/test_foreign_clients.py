"""What clients that are none of ours send to a node: Go clients, old ones, broken ones."""

import asyncio
import random
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mien.nodes.contract import GET_CAPABILITIES, HEALTH, INFER, STREAM_CAPABILITIES
from mien.nodes.proto.inference_pb2 import Capability, ErrorCode, InferRequest, InferResponse

PATIENCE = 5.0
PINGS_EVERY_MS = 10_000


def echo(payload: bytes = b"hello", **fields: Any) -> InferRequest:
    return InferRequest(task="echo_v1", payload=payload, payload_mime="text/plain", **fields)


def pieces(payload: bytes, size: int, **fields: Any) -> list[InferRequest]:
    total = -(-len(payload) // size)
    return [
        echo(payload[seq * size : (seq + 1) * size], seq=seq, total=total, offset=seq * size, **fields)
        for seq in range(total)
    ]


async def send(method: Any, *messages: InferRequest, close: bool = True) -> Any:
    stream = method(timeout=PATIENCE)
    for message in messages:
        await stream.write(message)
    if close:
        await stream.done_writing()
    return stream


async def status(method: Any, *messages: InferRequest, close: bool = True) -> tuple[grpc.StatusCode, str]:
    stream = method(timeout=PATIENCE)
    try:
        for message in messages:
            await stream.write(message)
        if close:
            await stream.done_writing()
        async for _ in stream:
            pass
    except grpc.aio.AioRpcError:
        pass
    except asyncio.InvalidStateError:  # the stream ended while we were writing
        pass
    return await stream.code(), await stream.details()


async def test_one_message_without_half_close_is_answered(raw: Any) -> None:
    stream = await send(raw, echo(correlation_id="c1"), close=False)
    answer = await asyncio.wait_for(stream.read(), 10)
    assert (answer.correlation_id, answer.result, answer.is_final, answer.total) == ("c1", b"hello", True, 1)
    stream.cancel()


async def test_a_stream_that_stays_open_is_ended_when_it_is_idle(raw: Any) -> None:
    stream = await send(raw, echo(), close=False)
    started = time.monotonic()
    assert (await stream.read()).is_final
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    assert 1.5 < time.monotonic() - started < 8  # the node of the tests waits 2 s


async def test_several_requests_on_one_stream_are_told_apart(raw: Any) -> None:
    stream = await send(raw, close=False)
    first, second = pieces(b"a" * 100, 30, correlation_id="a"), pieces(b"b" * 70, 30, correlation_id="b")
    for message in (first[3], second[0], first[1], second[2], first[0], second[1], first[2], echo(correlation_id="c")):
        await stream.write(message)
    await stream.done_writing()
    answers = {message.correlation_id: message.result async for message in stream}
    assert answers == {"a": b"a" * 100, "b": b"b" * 70, "c": b"hello"}


async def test_chunks_without_a_correlation_id_make_one_request(raw: Any) -> None:
    payload = bytes(range(256)) * 4096
    stream = await send(raw, *pieces(payload, 100_000))
    assert b"".join([message.result async for message in stream]) == payload


async def test_one_failed_request_does_not_end_the_others_of_its_stream(raw: Any) -> None:
    slow = InferRequest(correlation_id="slow", task="steps_v1", payload=b"x", meta={"silent": "0.5", "steps": "1"})
    stream = await send(raw, slow, InferRequest(correlation_id="bad", task="nope", payload=b"x"))
    answers = [message async for message in stream]
    assert [message.correlation_id for message in answers] == ["bad", "slow"]
    assert answers[0].error.code == ErrorCode.ERROR_CODE_INVALID_ARGUMENT
    assert "nope" in answers[0].error.message
    assert answers[0].error.detail == "not_found"
    assert answers[0].is_final
    assert not answers[1].HasField("error")


async def test_results_come_in_pieces_that_every_client_accepts(raw: Any) -> None:
    stream = await send(raw, echo(b"x" * 1_000_000, meta={"times": "5"}))
    answers = [message async for message in stream]
    assert [(m.seq, m.total, m.is_final) for m in answers] == [(i, 5, i == 4) for i in range(5)]
    assert [m.offset for m in answers] == [i * 1024 * 1024 for i in range(5)]
    assert max(m.ByteSize() for m in answers) < 2 * 1024 * 1024
    assert sum(len(m.result) for m in answers) == 5_000_000


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT, "without a request"),
        ([echo(seq=0, total=2), echo(seq=0, total=2)], grpc.StatusCode.INVALID_ARGUMENT, "came twice"),
        ([echo(seq=0, total=3), echo(seq=2, total=3, offset=10)], grpc.StatusCode.INVALID_ARGUMENT, "seq 1 is missing"),
        ([echo(seq=0, total=2), echo(seq=1, total=2, offset=3)], grpc.StatusCode.INVALID_ARGUMENT, "overlap"),
        ([echo(seq=0, total=2), echo(seq=1, total=2, offset=9)], grpc.StatusCode.INVALID_ARGUMENT, "gap"),
        ([echo(seq=0, total=2), echo(seq=1, total=3, offset=5)], grpc.StatusCode.INVALID_ARGUMENT, "total 3"),
        ([echo(seq=5, total=2)], grpc.StatusCode.INVALID_ARGUMENT, "out of range"),
        ([echo(seq=3)], grpc.StatusCode.INVALID_ARGUMENT, "without a total"),
        ([echo(seq=0, total=2**63)], grpc.StatusCode.INVALID_ARGUMENT, "at most"),
        (
            [echo(seq=0, total=2), InferRequest(task="steps_v1", payload=b"x", seq=1, total=2, offset=5)],
            grpc.StatusCode.INVALID_ARGUMENT,
            "must be the same",
        ),
        ([InferRequest(task="nope", payload=b"x")], grpc.StatusCode.NOT_FOUND, "echo_v1"),
        ([InferRequest(payload=b"x")], grpc.StatusCode.INVALID_ARGUMENT, "no task"),
        (
            [InferRequest(task="echo_v1", meta={"service": "steps"}, payload=b"x")],
            grpc.StatusCode.NOT_FOUND,
            "steps_v1",
        ),
        (
            [InferRequest(task="echo_v1", payload=b"x", payload_mime="not a type")],
            grpc.StatusCode.INVALID_ARGUMENT,
            "payload_mime",
        ),
        (
            [echo(b"x" * 9_000_000, seq=i, total=2, offset=9_000_000 * i) for i in range(2)],
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "limit",
        ),
        ([echo(b"x" * 18_000_000)], grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
async def test_wrong_requests_get_a_clear_status(
    raw: Any, messages: list[InferRequest], code: grpc.StatusCode, words: str
) -> None:
    found, details = await status(raw, *messages)
    assert found is code, details
    assert words in details


async def test_chunks_that_stop_coming_time_out(raw_own: Any) -> None:
    found, details = await status(raw_own, echo(seq=0, total=2), close=False)
    assert found is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no further chunk" in details


@pytest.mark.parametrize("seed", range(40))
async def test_any_sequence_of_chunks_is_answered_or_refused(raw: Any, seed: int) -> None:
    chance = random.Random(seed)
    messages = []
    for _ in range(chance.randint(1, 12)):
        total = chance.choice([0, 1, 2, 2, 3, 3, 2**40])
        messages.append(
            echo(
                b"x" * chance.choice([0, 1, 5, 5, 5]),
                correlation_id=chance.choice(["", "a", "b"]),
                seq=chance.choice([0, 0, 1, 2, 2**60]),
                total=total,
                offset=chance.choice([0, 5, 10, 3]),
            )
        )
    started = time.monotonic()
    found, details = await status(raw, *messages)
    assert found in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), details
    assert found is grpc.StatusCode.OK or details
    assert time.monotonic() - started < 2


async def test_requests_wait_for_their_turn_and_too_many_are_refused(raw_own: Any) -> None:
    slow = [
        InferRequest(correlation_id=str(i), task="steps_v1", payload=b"x", meta={"silent": "0.5", "steps": "1"})
        for i in range(16)
    ]  # the node of the tests runs 8 at once, and 4 may wait
    stream = await send(raw_own, *slow)
    answers = [message async for message in stream]
    refused = [message for message in answers if message.HasField("error")]
    assert (len(answers), len(refused)) == (16, 4)
    assert {message.error.detail for message in refused} == {"overloaded"}


async def test_a_request_that_waits_for_its_turn_ends_at_its_deadline(raw_own: Any) -> None:
    slow = [
        InferRequest(correlation_id=str(i), task="steps_v1", payload=b"x", meta={"silent": "3", "steps": "1"})
        for i in range(8)
    ]
    running = await send(raw_own, *slow)
    late = raw_own(timeout=0.3)
    await late.write(InferRequest(task="echo_v1", payload=b"x"))
    assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len([message async for message in running]) == 8


@pytest.mark.parametrize("method", ["Infer", "StreamCapabilities", "GetCapabilities", "Health"])
async def test_what_is_no_protobuf_is_an_invalid_argument(node: Any, method: str, capfd: Any) -> None:
    await refuses(node, f"/home_native.v1.Inference/{method}", capfd)


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_the_health_service_says_so_too(node: Any, method: str, capfd: Any) -> None:
    await refuses(node, f"/grpc.health.v1.Health/{method}", capfd)


async def refuses(node: Any, path: str, capfd: Any) -> None:
    async with grpc.aio.insecure_channel(node.address) as channel:
        call = channel.stream_stream(path)(iter([b"\xff\xff\xff no protobuf"]), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "is not a valid" in refused.value.details()
    assert "Traceback" not in capfd.readouterr().err


async def test_a_connection_that_breaks_cancels_its_requests(own_node: Any) -> None:
    channel = grpc.aio.insecure_channel(own_node.address)
    stream = channel.stream_stream(INFER, InferRequest.SerializeToString, InferResponse.FromString)()
    await stream.write(InferRequest(task="steps_v1", payload=b"x", meta={"silent": "30"}))
    await asyncio.to_thread(own_node.wait_for, "began")
    at = time.time()
    await channel.close(None)
    assert await asyncio.to_thread(own_node.wait_for, "told") - at < 1


async def test_capabilities_and_health(node: Any) -> None:
    async with grpc.aio.insecure_channel(node.address) as channel:
        every = channel.unary_stream(STREAM_CAPABILITIES, Empty.SerializeToString, Capability.FromString)
        found = {one.service_name: one async for one in every(Empty())}
        assert sorted(found) == ["echo", "failing", "steps"]
        assert {one.protocol_version for one in found.values()} == {"1.0"}
        assert [task.name for task in found["echo"].tasks] == [
            "echo_v1",
            "old_echo",
            "echo_v1_stream",
            "old_echo_stream",
        ]
        one = channel.unary_unary(GET_CAPABILITIES, Empty.SerializeToString, Capability.FromString)
        assert {task.name for task in (await one(Empty())).tasks} >= {"echo_v1", "steps_v1", "fail_v1"}
        alive = channel.unary_unary(HEALTH, Empty.SerializeToString, Empty.FromString)
        assert await alive(Empty()) == Empty()
        ping = channel.unary_unary(HEALTH, None, None)
        assert await ping(b"\x7a\x03abc") == b"", "an unknown field is not sent back"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ping(b"\x7a\x90\x4e" + bytes(10_000))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def survives(node: Any, seconds: float, pings_every_ms: int) -> None:
    options = [
        ("grpc.keepalive_time_ms", pings_every_ms), ("grpc.keepalive_timeout_ms", 3000),
        ("grpc.http2.max_pings_without_data", 0), ("grpc.use_local_subchannel_pool", 1),
    ]  # fmt: skip
    async with grpc.aio.insecure_channel(node.address, options) as channel:
        method = channel.stream_stream(INFER, InferRequest.SerializeToString, InferResponse.FromString)
        stream = method(timeout=seconds + 10)
        meta = {"silent": str(seconds), "steps": "1"}
        await stream.write(InferRequest(task="steps_v1", payload=b"x", meta=meta))
        answer = await stream.read()
        assert answer is not grpc.aio.EOF, (await stream.code(), await stream.details())
        assert answer.is_final
        stream.cancel()


async def test_a_silent_request_survives_pings(node: Any) -> None:
    await survives(node, 4.5, 1000)


@pytest.mark.soak
@pytest.mark.limit(120)
async def test_a_silent_request_of_75_seconds_survives_pings_every_10(node: Any) -> None:
    await survives(node, 75, PINGS_EVERY_MS)
