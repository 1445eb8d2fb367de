"""Payloads of one request: isolated, streamed as they are done, stopped when nobody wants them any more."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from mien.engine.admission import Admission
from mien.engine.call import Call
from mien.engine.pool import WorkerPool
from mien.errors import (
    BodyTooLarge,
    Cancelled,
    DeadlineExceeded,
    ImageTruncated,
    InternalError,
    InvalidField,
    Overloaded,
)
from mien.inference.contract import InferRequest, InferResult, Item
from mien.inference.items import Answer, ItemWorkers, Tell, to_json
from mien.metrics import Metrics
from mien.settings import Api, Limits

SOON = 5.0  # seconds that nothing here may take


@dataclass
class Bench:
    """Workers with two threads, room for four payloads, and what they did."""

    metrics: Metrics = field(default_factory=Metrics)
    pool: WorkerPool = field(default_factory=lambda: WorkerPool(2))
    admission: Admission = field(default_factory=lambda: Admission(max_images=4, max_bytes=1000))
    limits: Limits = field(default_factory=lambda: Limits(max_images=8))
    seen: list[bytes] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def workers(self) -> ItemWorkers:
        return ItemWorkers(
            pool=self.pool, admission=self.admission, limits=self.limits, api=Api(), metrics=self.metrics, parallel=2
        )

    def work(self, item: Item, tell: Tell | None) -> Answer:
        """`wait` waits for the gate, `bad` is a bad image, `bug` a bug, `parts` tells of two parts."""
        self.seen.append(item.data)
        if item.data == b"wait":
            assert self.gate.wait(SOON)
        if item.data == b"bad":
            raise ImageTruncated("cut off")
        if item.data == b"bug":
            raise KeyError("/etc/secret")
        if item.data == b"parts" and tell is not None:
            tell(Answer(b"1", {"face": "0"}))
            tell(Answer(b"2", {"face": "1"}))
        return Answer(to_json({"said": item.data.decode()}), {"k": "v"})

    def answers(
        self, *payloads: bytes, call: Call | None = None, stream: bool = False, mime: str = "text/plain"
    ) -> AsyncIterator[InferResult]:
        request = InferRequest(tuple(Item(data, mime) for data in payloads))
        return self.workers.answers("test_v1", request, call or Call(SOON), self.work, stream=stream)

    async def all(self, *payloads: bytes, stream: bool = False, mime: str = "text/plain") -> list[InferResult]:
        return [message async for message in self.answers(*payloads, stream=stream, mime=mime)]

    def images(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("mien_images_total", {"outcome": outcome}) or 0.0


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.set()
    bench.pool.close()
    assert bench.admission.idle


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not true():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_payload_is_one_final_message(bench: Bench, stream: bool) -> None:
    (message,) = await bench.all(b"hello", stream=stream)
    assert message == InferResult(
        b'{"said":"hello"}', "application/json;schema=test_v1", "test_v1", {"k": "v"}, is_final=True, seq=0, total=1
    )


async def test_parts_of_one_payload_come_first_and_in_order(bench: Bench) -> None:
    messages = await bench.all(b"parts", stream=True)
    assert [(m.data, m.seq, m.total, m.is_final) for m in messages] == [
        (b"1", 0, 0, False), (b"2", 1, 0, False), (b'{"said":"parts"}', 2, 0, True),
    ]  # fmt: skip
    assert messages[1].meta == {"face": "1"}


async def test_parts_are_only_told_to_those_who_stream_one_payload(bench: Bench) -> None:
    assert len(await bench.all(b"parts")) == 1
    assert [m.meta.get("face") for m in await bench.all(b"parts", b"parts", stream=True)] == [None] * 3


async def test_a_bad_payload_spoils_nothing_but_itself(bench: Bench) -> None:
    (message,) = await bench.all(b"a", b"bad", b"bug", b"b")
    first, second, third, fourth = json.loads(message.data)
    assert (first, fourth) == ({"said": "a"}, {"said": "b"})
    assert second == {"error": {"code": "image_truncated", "message": "cut off"}}
    assert third["error"]["code"] == "internal"
    assert "secret" not in third["error"]["message"]
    assert message.meta == {"items": "4", "failed": "2"}
    assert (message.mime, message.schema, message.is_final) == ("application/json", "test_v1[]", True)


async def test_streamed_payloads_come_as_they_are_done_and_again_in_order_at_the_end(bench: Bench) -> None:
    messages = []
    async for message in bench.answers(b"wait", b"x", b"bad", stream=True):
        messages.append(message)
        if len(messages) == 2:
            bench.gate.set()
    assert [m.meta.get("item") for m in messages] == ["1", "2", "0", None]
    assert [m.seq for m in messages] == [0, 1, 2, 3]
    assert [m.is_final for m in messages] == [False, False, False, True]
    assert (messages[0].schema, messages[1].schema) == ("test_v1", "")
    assert b"[" + b",".join([messages[2].data, messages[0].data, messages[1].data]) + b"]" == messages[3].data


@pytest.mark.parametrize(("payload", "error"), [(b"bad", ImageTruncated), (b"bug", InternalError)])
async def test_the_error_of_a_single_payload_is_raised(bench: Bench, payload: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await bench.all(payload, stream=True)


async def test_none_and_too_many_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidField, match="payload"):
        await bench.all()
    with pytest.raises(BodyTooLarge, match="9 payloads"):
        await bench.all(*[b"x"] * 9)
    assert bench.seen == []


async def test_a_full_server_says_so(bench: Bench) -> None:
    first = bench.answers(b"wait", b"wait", b"wait", stream=True)
    waiting = asyncio.ensure_future(anext(first))
    await until(lambda: len(bench.seen) == 2)
    with pytest.raises(Overloaded):
        await bench.all(b"x", b"x")
    bench.gate.set()
    await waiting
    assert len([message async for message in first]) == 3


async def test_a_deadline_fires_while_the_work_hangs(bench: Bench) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await anext(bench.answers(b"wait", call=Call(0.05)))
    assert time.monotonic() - started < 1


async def test_a_cancel_from_elsewhere_ends_the_wait(bench: Bench) -> None:
    call = Call(SOON)
    waiting = asyncio.ensure_future(anext(bench.answers(b"wait", call=call)))
    await until(lambda: len(bench.seen) == 1)
    await asyncio.to_thread(call.cancel)
    with pytest.raises(Cancelled):
        await waiting


async def test_closing_the_iterator_cancels_the_call_and_starts_nothing_more(bench: Bench) -> None:
    call = Call(SOON)
    answers = bench.answers(b"x", b"wait", b"wait", b"never", stream=True, call=call)
    assert (await anext(answers)).meta["item"] == "0"
    await until(lambda: len(bench.seen) == 3)
    await answers.aclose()  # type: ignore[attr-defined]
    assert call.cancelled
    assert bench.admission.images == 0
    bench.gate.set()
    await asyncio.sleep(0.05)
    assert b"never" not in bench.seen


async def test_a_finished_answer_does_not_cancel_its_call(bench: Bench) -> None:
    call = Call(SOON)
    assert [m.is_final async for m in bench.answers(b"x", b"y", call=call)] == [True]
    assert not call.cancelled


async def test_only_images_count_as_images(bench: Bench) -> None:
    await bench.all(b"x", b"bad")
    assert (bench.images("done"), bench.images("failed")) == (0, 0)
    await bench.all(b"x", b"bad", mime="image/png")
    assert (bench.images("done"), bench.images("failed")) == (1, 1)
