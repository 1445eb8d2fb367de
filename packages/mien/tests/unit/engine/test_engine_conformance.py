"""The conformance suite of engines. The test's handlers communicate through files, so that they work in any process."""

import asyncio
import base64
import gc
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.engine import Done, Engine, Event, Failed, Handler, Handlers, Operation, Partial, Report, outcomes
from mien.engine.sources import Base64, Item, Remote, Source, SourceReader
from mien.engine.thread_engine import ThreadEngine
from mien.engine.threads import ThreadPool
from mien.errors import (
    BodyTooLarge,
    Cancelled,
    DeadlineExceeded,
    ImageTruncated,
    InternalError,
    ModelUnavailable,
    Overloaded,
    SourceNotFound,
    Unavailable,
)
from mien.metrics import Metrics
from mien.net.fetch import Fetcher
from testing.waiting import eventually_async

SOON = 10.0  # seconds that nothing here may take
PARALLEL, MAX_ITEMS, ROOM = 2, 8, 6


@dataclass(frozen=True)
class Shout(Operation[str]):
    """Turn each item's bytes into upper case; `folder` has the gate and what was seen."""

    folder: str
    ready: bool = True


class Shouter(Handler):
    """`wait` waits for the gate, `bad` is a bad image, `bug` a bug, `parts` has two parts."""

    async def prepare(self, operation: Shout, sources: Any) -> None:
        if not operation.ready:
            raise ModelUnavailable("not here")

    def work(self, item: Item, operation: Shout, scope: CancelScope, report: Report | None) -> str:
        folder = Path(operation.folder)
        word = item.data.decode(errors="replace")
        (folder / f"seen {word[:10]} {uuid.uuid4()}").touch()
        if word.startswith("wait"):
            until_exists(folder / "gate")
        if word == "bad":
            raise ImageTruncated("cut off")
        if word == "bug":
            raise KeyError("/etc/secret")
        if word == "parts" and report is not None:
            report("PA", 0, 2)
            report("RTS", 1, 2)
        return word.upper()


def until_exists(path: Path) -> None:
    end = time.monotonic() + SOON
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.002)


@dataclass
class Running:
    """An engine that admits six items and processes two of one request concurrently."""

    engine: Engine
    folder: Path
    admission: Admission
    metrics: Metrics
    scope: CancelScope = field(default_factory=lambda: CancelScope(SOON))

    def run(self, *words: str | Source, scope: CancelScope | None = None, **options: Any) -> AsyncGenerator[Event[str]]:
        sources = [Item(word.encode()) if isinstance(word, str) else word for word in words]
        return self.engine.run(Shout(str(self.folder)), sources, scope or self.scope, **options)

    async def all(self, *words: str | Source, **options: Any) -> list[str | None]:
        """The values in order, None for what failed."""
        found = await outcomes(self.run(*words, **options), len(words))
        assert [outcome.index for outcome in found] == list(range(len(words)))
        return [outcome.value if isinstance(outcome, Done) else None for outcome in found]

    def open(self) -> None:
        (self.folder / "gate").touch()

    def seen(self) -> int:
        return sum(path.name.startswith("seen ") for path in self.folder.iterdir())

    def images(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("mien_images_total", {"outcome": outcome}) or 0.0


@contextmanager
def threads(handlers: Handlers, root: Path, admission: Admission, metrics: Metrics) -> Iterator[Engine]:
    pool = ThreadPool(4)
    reader = SourceReader(Fetcher(), images_root=root, max_bytes=1000)
    yield ThreadEngine(
        handlers, reader=reader, threads=pool, admission=admission, metrics=metrics, parallel=PARALLEL,
        max_items=MAX_ITEMS,
    )  # fmt: skip
    pool.close()


IMPLEMENTATIONS = {"threads": threads}


@pytest.fixture(params=IMPLEMENTATIONS)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    admission, metrics = Admission(max_images=ROOM, max_bytes=1), Metrics()
    with IMPLEMENTATIONS[request.param]({Shout: Shouter()}, tmp_path, admission, metrics) as engine:
        running = Running(engine, tmp_path, admission, metrics)
        yield running
        running.open()
    assert admission.idle


# --- results


async def test_each_source_gets_its_own_value(running: Running) -> None:
    assert await running.all("a", "b", "c", "d", "e") == ["A", "B", "C", "D", "E"]
    assert running.images("done") == 5


async def test_without_sources_there_are_no_events(running: Running) -> None:
    assert await running.all() == []


async def test_values_come_as_they_are_done(running: Running) -> None:
    indices = []
    async for event in running.run("wait", "x", "y"):
        indices.append(event.index)
        if len(indices) == 2:
            running.open()
    assert indices == [1, 2, 0]


async def test_partial_values_precede_the_complete_one_and_only_on_request(running: Running) -> None:
    events = [event async for event in running.run("parts", partials=True)]
    assert events[:2] == [Partial(0, "PA", 0, 2), Partial(0, "RTS", 1, 2)]
    assert isinstance(events[2], Done)
    assert [type(event) for event in [event async for event in running.run("parts")]] == [Done]


async def test_sources_are_read_where_they_are(running: Running) -> None:
    (running.folder / "image").write_bytes(b"on disk")
    encoded = Base64("data:image/png;base64," + base64.b64encode(b"sixty-four").decode())
    assert await running.all(encoded, Remote("image")) == ["SIXTY-FOUR", "ON DISK"]


# --- isolation


async def test_what_fails_fails_alone(running: Running) -> None:
    found = await outcomes(running.run("a", "bad", "bug", Base64("!"), Remote("nowhere"), "b"), 6)
    errors = [outcome.error for outcome in found if isinstance(outcome, Failed)]
    assert [outcome.value for outcome in found if isinstance(outcome, Done)] == ["A", "B"]
    assert [error.code for error in errors] == [
        "image_truncated", "internal", "image_invalid", SourceNotFound.code,
    ]  # fmt: skip
    assert isinstance(errors[1], InternalError)
    assert "secret" not in errors[1].message
    assert (running.images("done"), running.images("failed")) == (2, 4)


async def test_only_images_count_as_images(running: Running) -> None:
    assert await running.all(Item(b"a", "text/plain"), Item(b"bad", "text/plain")) == ["A", None]
    assert (running.images("done"), running.images("failed")) == (0, 0)


# --- admission


async def test_too_many_items_are_refused_before_any_work(running: Running) -> None:
    with pytest.raises(BodyTooLarge, match="9 payloads in one request; this server takes at most 8"):
        await running.all(*"abcdefghi", noun="payload")
    assert running.seen() == 0


async def test_a_full_engine_rejects_and_has_capacity_again_afterwards(running: Running) -> None:
    first = asyncio.create_task(running.all("wait", "wait", "wait", "wait"))
    await eventually_async(lambda: running.seen() == 2)
    with pytest.raises(Overloaded) as refused:
        await running.all("a", "b", "c")
    assert refused.value.retry_after
    running.open()
    await first
    assert await running.all("a", "b", "c") == ["A", "B", "C"]


async def test_capacity_is_freed_as_each_item_is_done(running: Running) -> None:
    first = running.run("a", "b", "wait", "wait")
    for _ in range(2):
        await anext(first)
    assert running.admission.images == 2
    running.open()
    async for _ in first:
        pass


async def test_a_draining_engine_refuses_new_work_and_finishes_the_old(running: Running) -> None:
    first = asyncio.create_task(running.all("wait"))
    await eventually_async(lambda: running.seen() == 1)
    running.admission.drain()
    with pytest.raises(Unavailable):
        await running.all("a")
    running.open()
    assert await first == ["WAIT"]


async def test_a_missing_model_is_reported_before_the_request_is_admitted(running: Running) -> None:
    with pytest.raises(ModelUnavailable):
        await outcomes(running.engine.run(Shout(str(running.folder), ready=False), [Item(b"a")], running.scope), 1)
    assert running.seen() == 0


async def test_one_request_leaves_slots_for_others(running: Running) -> None:
    first = asyncio.create_task(running.all("wait", "wait", "wait", "wait"))
    await eventually_async(lambda: running.seen() == 2)
    assert await running.all("x", "y") == ["X", "Y"]
    assert running.seen() == 4
    running.open()
    await first


# --- deadline and cancel


async def test_a_deadline_ends_the_wait_while_the_work_hangs(running: Running) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
        await running.all("wait", "wait", "wait", scope=CancelScope(0.1))
    assert time.monotonic() - started < SOON / 2
    assert running.admission.idle


async def test_a_cancel_from_another_thread_ends_the_wait(running: Running) -> None:
    scope = CancelScope(SOON)
    waiting = asyncio.create_task(running.all("wait", scope=scope))
    await eventually_async(lambda: running.seen() == 1)
    await asyncio.to_thread(scope.cancel)
    with pytest.raises(Cancelled):
        await waiting


async def test_a_scope_that_is_over_starts_nothing(running: Running) -> None:
    scope = CancelScope(SOON)
    scope.cancel()
    with pytest.raises(Cancelled):
        await running.all("a", "b", scope=scope)
    assert running.seen() == 0


async def test_closing_the_events_cancels_the_scope_and_starts_nothing_more(running: Running) -> None:
    events = running.run("x", "wait", "wait", "never")
    assert (await anext(events)).index == 0
    await eventually_async(lambda: running.seen() == 3)
    await events.aclose()
    assert running.scope.cancelled
    assert running.admission.idle
    running.open()
    assert await running.all("y", scope=CancelScope(SOON)) == ["Y"]
    assert running.seen() == 4


async def test_a_cancelled_task_cancels_the_scope(running: Running) -> None:
    waiting = asyncio.create_task(running.all("wait"))
    await eventually_async(lambda: running.seen() == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert running.scope.cancelled


async def test_a_run_to_the_end_does_not_cancel_its_scope(running: Running) -> None:
    await running.all("x", "bad")
    assert not running.scope.cancelled


# --- leaks

LARGE = 100_000


@pytest.mark.parametrize("how", ["done", "bad", "closed", "late"])
async def test_nothing_is_left_to_the_garbage_collector(running: Running, how: str) -> None:
    async def once() -> None:
        word = ("wait" if how in ("closed", "late") else how) * LARGE
        scope = CancelScope(0.05 if how == "late" else SOON)
        events = running.run(word, "bad" if how == "bad" else "x", scope=scope)
        try:
            async for _ in events:
                if how == "closed":
                    break
        except DeadlineExceeded:
            assert how == "late"
        finally:
            await events.aclose()
        running.open()

    await once()  # the first may import and cache
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await once()
        await eventually_async(lambda: len(asyncio.all_tasks()) == 1)
        gc.collect()
        kept = [holder for holder in gc.garbage for held in gc.get_referents(holder) if sys.getsizeof(held) > LARGE]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kept == []
