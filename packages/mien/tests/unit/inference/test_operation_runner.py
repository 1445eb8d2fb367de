"""Messages of a response: one payload streams partial results, several stream results as they complete."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import numpy as np
import orjson
import pytest

from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Handler, Operation, Partial, Report
from mien.engine.sources import Item, SourceReader
from mien.engine.thread_engine import ThreadEngine
from mien.engine.threads import ThreadPool
from mien.errors import BodyTooLarge, ImageTruncated, InternalError, InvalidField, MienError
from mien.inference.contract import InferRequest, InferResult, Json
from mien.inference.operation_runner import ItemResult, OperationRunner
from mien.metrics import Metrics
from mien.net.fetch import Fetcher

SOON = 5.0  # seconds that nothing here may take


@dataclass(frozen=True)
class Say(Operation[str]):
    """Echo each payload."""


@dataclass
class Bench(Handler):
    """Runs operations on an engine with two threads."""

    metrics: Metrics = field(default_factory=Metrics)
    pool: ThreadPool = field(default_factory=lambda: ThreadPool(2))
    seen: list[bytes] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def work(self, item: Item, operation: Say, scope: CancelScope, report: Report | None) -> str:
        """`wait` waits for the gate, `bad` is a bad image, `bug` a bug, `parts` reports two parts."""
        self.seen.append(item.data)
        if item.data == b"wait":
            assert self.gate.wait(SOON)
        if item.data == b"bad":
            raise ImageTruncated("cut off")
        if item.data == b"bug":
            raise KeyError("/etc/secret")
        if item.data == b"parts" and report is not None:
            report("pa", 0, 2)
            report("rts", 1, 2)
        return item.data.decode()

    def answers(
        self, *payloads: bytes, scope: CancelScope | None = None, stream: bool = False
    ) -> AsyncIterator[InferResult]:
        engine = ThreadEngine(
            {Say: self},
            reader=SourceReader(Fetcher(), images_root=None, max_bytes=1),
            threads=self.pool,
            admission=Admission(max_images=8, max_bytes=1),
            metrics=self.metrics,
            parallel=2,
            max_items=8,
        )
        request = InferRequest(tuple(Item(data, "text/plain") for data in payloads))
        scope = scope or CancelScope(SOON)
        return OperationRunner(engine, self.metrics).results("test_v1", request, scope, Say(), said, stream=stream)

    async def all(self, *payloads: bytes, stream: bool = False) -> list[InferResult]:
        return [await message.encoded() async for message in self.answers(*payloads, stream=stream)]

    def errors(self, code: str) -> float:
        return self.metrics.registry.get_sample_value("mien_errors_total", {"code": code}) or 0.0


def said(event: Partial[str] | Done[str]) -> ItemResult:
    return ItemResult({"said": event.value}, {"part": str(event.part)} if isinstance(event, Partial) else {"k": "v"})


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.set()
    bench.pool.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_one_payload_is_one_final_message(bench: Bench, stream: bool) -> None:
    (message,) = await bench.all(b"hello", stream=stream)
    assert message == InferResult(
        b'{"said":"hello"}', "application/json;schema=test_v1", "test_v1", {"k": "v"}, is_final=True, seq=0, total=1
    )


async def test_parts_of_one_payload_come_first_and_in_order(bench: Bench) -> None:
    messages = await bench.all(b"parts", stream=True)
    assert [(m.data, m.seq, m.total, m.is_final) for m in messages] == [
        (b'{"said":"pa"}', 0, 0, False),
        (b'{"said":"rts"}', 1, 0, False),
        (b'{"said":"parts"}', 2, 0, True),
    ]
    assert messages[1].meta == {"part": "1"}


async def test_partial_results_are_only_streamed_for_a_single_payload(bench: Bench) -> None:
    assert len(await bench.all(b"parts")) == 1
    assert [m.meta.get("part") for m in await bench.all(b"parts", b"parts", stream=True)] == [None] * 3


async def test_a_bad_payload_spoils_nothing_but_itself(bench: Bench) -> None:
    (message,) = await bench.all(b"a", b"bad", b"bug", b"b")
    first, second, third, fourth = json.loads(message.data)
    assert (first, fourth) == ({"said": "a"}, {"said": "b"})
    assert second == {"error": {"code": "image_truncated", "message": "cut off"}}
    assert third["error"]["code"] == "internal"
    assert "secret" not in third["error"]["message"]
    assert message.meta == {"items": "4", "failed": "2"}
    assert (bench.errors("image_truncated"), bench.errors("internal")) == (1, 1)
    assert (message.mime, message.schema, message.is_final) == ("application/json", "test_v1[]", True)


async def test_streamed_payloads_come_as_they_are_done_and_again_in_order_at_the_end(bench: Bench) -> None:
    messages = []
    async for message in bench.answers(b"wait", b"x", b"bad", stream=True):
        messages.append(await message.encoded())
        if len(messages) == 2:
            bench.gate.set()
    assert [m.meta.get("item") for m in messages] == ["1", "2", "0", None]
    assert [m.seq for m in messages] == [0, 1, 2, 3]
    assert [m.is_final for m in messages] == [False, False, False, True]
    assert (messages[0].schema, messages[1].schema) == ("test_v1", "")
    assert b"[" + b",".join([messages[2].data, messages[0].data, messages[1].data]) + b"]" == messages[3].data


@pytest.mark.parametrize(("payload", "error"), [(b"bad", ImageTruncated), (b"bug", InternalError)])
async def test_the_error_of_a_single_payload_is_raised(bench: Bench, payload: bytes, error: type[MienError]) -> None:
    with pytest.raises(error):
        await bench.all(payload, stream=True)
    assert bench.errors(error.code) == 0  # whoever answers the request counts it


async def test_none_and_too_many_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidField, match="payload"):
        await bench.all()
    with pytest.raises(BodyTooLarge, match="9 payloads"):
        await bench.all(*[b"x"] * 9)
    assert bench.seen == []


async def test_closing_the_stream_cancels_the_work(bench: Bench) -> None:
    scope = CancelScope(SOON)
    runner = bench.answers(b"x", b"wait", b"wait", stream=True, scope=scope)
    assert (await anext(runner)).meta["item"] == "0"
    await runner.aclose()  # type: ignore[attr-defined]
    assert scope.cancelled


async def test_a_finished_answer_does_not_cancel_its_scope(bench: Bench) -> None:
    scope = CancelScope(SOON)
    assert [m.is_final async for m in bench.answers(b"x", b"y", scope=scope)] == [True]
    assert not scope.cancelled


def test_plain_json_is_what_a_decoder_would_give() -> None:
    array = np.array([[0.1, 1e-7], [16777216, 0]], np.float32)
    value = Json({"a": array, "b": [np.float32(0.3), None, "x"], "c": {"d": 1}})
    assert value.plain() == json.loads(value.encode())
    assert value.plain()["a"][0][0] == 0.1


async def test_large_values_are_encoded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    plain = Json.encode
    monkeypatch.setattr(Json, "encode", lambda self: threads.append(threading.current_thread().name) or plain(self))
    faces = [{"embedding": np.ones(512, np.float32)} for _ in range(40)]
    few, many = ({"faces": part} for part in (faces[:2], faces))
    for value in (few, many):
        message = await InferResult(value=Json(value), is_final=True).encoded()
        assert message.data == orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    assert threads[0] == threading.main_thread().name
    assert threads[1] != threads[0]
