"""Large collections against a server that is fast, slow, or out of order."""

import asyncio
import contextlib
import threading
import time

import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifr_clients import IFRClient, IFRClientAsync, IFRRejected, IFRResponseInvalid, ImageResponse

# A collection that is left in the middle closes its client under requests of other threads. The HTTP library leaves the
# socket of one that is just connecting to the garbage collector, which then warns in whichever test comes next.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")

INFO = {"models": {"det_batch_size": 8, "rec_batch_size": 20}, "limits": {"max_images": 256, "max_body_bytes": 1000}}


@pytest.fixture
def echoing(scripted, reply):
    """A server whose results name their image, later batches first; `/info` tells its limits."""

    def answer(seen):
        if seen.path == "/info":
            return reply(INFO)
        images = ormsgpack.unpackb(seen.body)["images"]
        data = [
            {"status": "success", "took_ms": 0, "faces": [], "image": image} for image in next(iter(images.values()))
        ]
        return reply({"took": {"total_ms": 1}, "data": data}, delay=0.02 if b"even" in seen.body else 0)

    scripted.otherwise = answer
    return scripted


def extractions(scripted):
    return [ormsgpack.unpackb(seen.body)["images"] for seen in scripted.seen if seen.path == "/extract"]


def test_results_come_in_order_whoever_answers_first(echoing, client_factory):
    names = [f"{'even' if number // 5 % 2 == 0 else 'odd'}/{number}.jpg" for number in range(103)]

    results = client_factory(echoing.host).extract_many(names, batch_size=5, concurrency=4)

    assert [result["image"] for result in results] == names
    assert sorted(len(images["urls"]) for images in extractions(echoing)) == [3] + [5] * 20


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 40), batch_size=st.integers(1, 9), concurrency=st.integers(1, 5))
def test_any_batches_and_concurrency_give_the_same_results(echoing, count, batch_size, concurrency):
    images = [f"image {number}".encode() for number in range(count)]

    with IFRClient(echoing.host) as client:
        results = list(client.extract_many(iter(images), "data", batch_size, concurrency))

    assert [result["image"] for result in results] == images


def test_the_default_batch_is_the_servers_and_fits_its_body(echoing, client_factory):
    images = [bytes(50)] * 30

    results = client_factory(echoing.host).extract_many(images, mode="data")

    assert len(list(results)) == 30
    assert sorted(len(images["data"]) for images in extractions(echoing)) == [2, 14, 14]


def test_results_may_be_models(echoing, client_factory):
    results = list(client_factory(echoing.host).extract_many(["a.jpg"], raw_response=False))

    assert isinstance(results[0], ImageResponse)
    assert results[0].ok


def test_files_are_read_and_those_that_cannot_be_say_so(echoing, client_factory, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "c.jpg").write_bytes(b"c")
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]

    first, missing, last = client_factory(echoing.host).extract_many(paths, mode="data")

    assert (first["image"], last["image"]) == (b"a", b"c")
    assert missing["status"] == "error"
    assert "b.jpg" in missing["error"]


def test_nothing_but_unreadable_files_needs_no_request(echoing, client_factory, tmp_path):
    results = list(client_factory(echoing.host).extract_many([tmp_path / "none.jpg"], "data", 4))

    assert [result["status"] for result in results] == ["error"]
    assert echoing.seen == []


def test_a_refusal_is_raised_after_the_results_before_it(echoing, reply, client_factory):
    answer = echoing.otherwise
    echoing.otherwise = lambda seen: reply({"detail": "broken"}, 500) if b"7.jpg" in seen.body else answer(seen)
    client = client_factory(echoing.host)
    got = []

    def run():
        for result in client.extract_many([f"{number}.jpg" for number in range(20)], batch_size=2):
            got.append(result["image"])

    if isinstance(client, IFRClient):
        with pytest.raises(IFRRejected, match="broken"):
            run()
        assert got == [f"{number}.jpg" for number in range(6)]
    else:
        with pytest.raises(IFRRejected, match="broken"):
            client.extract_many([f"{number}.jpg" for number in range(20)], batch_size=2)


def test_an_image_that_the_server_refuses_for_its_size_fails_alone(echoing, reply, client_factory):
    answer = echoing.otherwise
    echoing.otherwise = lambda seen: reply({"detail": "too large"}, 413) if len(seen.body) > 1500 else answer(seen)

    results = client_factory(echoing.host).extract_many([b"a", bytes(2000), b"b"], mode="data")

    assert [result.get("error") for result in results] == [None, "too large", None]


def test_an_answer_about_more_images_than_were_sent_is_invalid(scripted, reply, client_factory):
    scripted.otherwise = reply({"took": {}, "data": [{}, {}]})

    with pytest.raises(IFRResponseInvalid, match="has 2 images; 1 were sent"):
        list(client_factory(scripted.host).extract_many(["a.jpg"], batch_size=1))


def test_progress_is_told_to_a_function_and_drawn_on_stderr(echoing, client_factory, capsys):
    told = []

    list(client_factory(echoing.host).extract_many(["a.jpg"] * 5, batch_size=2, progress=lambda *now: told.append(now)))
    list(client_factory(echoing.host).extract_many(iter(["a.jpg"] * 5), batch_size=2, progress=True))

    assert told == [(done, 5) for done in range(1, 6)]
    assert capsys.readouterr().err.startswith("5 images  ")


def test_images_are_taken_as_they_are_needed(echoing):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield f"{len(taken)}.jpg"

    with (
        IFRClient(echoing.host) as client,
        contextlib.closing(client.extract_many(endless(), batch_size=3, concurrency=2)) as results,
    ):
        for _ in range(7):
            next(results)

    assert len(taken) <= 7 + 2 * 2 * 3 + 3


def test_no_more_requests_run_at_once_than_asked_for(scripted, reply):
    lock, now, most = threading.Lock(), [0], [0]

    def answer(seen):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return reply()

    scripted.otherwise = answer
    with IFRClient(scripted.host) as client:
        list(client.extract_many(["a.jpg"] * 20, batch_size=1, concurrency=3))

    assert most[0] == 3


async def test_an_async_source_is_taken_as_it_comes_and_left_when_the_caller_leaves(echoing):
    taken = []

    async def camera():
        while True:
            await asyncio.sleep(0)
            taken.append(len(taken))
            yield f"frame {len(taken)}".encode()

    got = []
    async with IFRClientAsync(echoing.host) as client:
        async with contextlib.aclosing(client.extract_many(camera(), "data", 3, 2)) as results:
            async for result in results:
                got.append(result["image"])
                if len(got) == 7:
                    break
        assert len(asyncio.all_tasks()) == 1

    assert got == [f"frame {number}".encode() for number in range(1, 8)]
    assert len(taken) <= 7 + 2 * 2 * 3 + 3


async def test_progress_of_an_async_run(echoing):
    told = []
    async with IFRClientAsync(echoing.host) as client:
        results = client.extract_many(["a.jpg"] * 3, batch_size=2, progress=lambda *now: told.append(now))
        assert [result["image"] async for result in results] == ["a.jpg"] * 3

    assert told == [(1, 3), (2, 3), (3, 3)]
