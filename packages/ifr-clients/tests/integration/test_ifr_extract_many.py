"""Large collections against a server that is fast, slow, or out of order."""

import asyncio
import contextlib
import socket
import threading
import time

import numpy as np
import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifr_clients import (
    IFRClient,
    IFRClientAsync,
    IFRConnectionError,
    IFRRejected,
    IFRResponseInvalid,
    ImageResponse,
    Stopped,
)
from testing.waiting import eventually

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


def collected(client, *arguments, **keywords):
    """The results up to an error, and that error, for either client."""
    got = []

    async def collect():
        async for result in client.client.extract_many(*arguments, **keywords):
            got.append(result)

    try:
        if isinstance(client, IFRClient):
            got.extend(client.extract_many(*arguments, **keywords))
        else:
            client._runner.run(collect())
    except Exception as error:  # noqa: BLE001 - is what tests look at
        return got, error
    return got, None


NAMES = [f"{number}.jpg" for number in range(20)]


def test_images_that_cannot_be_used_fail_alone(echoing, client_factory, tmp_path):
    class Broken:
        def read(self):
            raise RuntimeError("the socket is gone")

    images = [None, b"a", 3, "http://example.com", tmp_path / "none.jpg", Broken(), np.zeros((2, 2)), {}, b"b", "?"]

    results, error = collected(client_factory(echoing.host), images, mode="data", batch_size=4)

    assert error is None
    assert [result.get("image") for result in results] == [None, b"a", *[None] * 6, b"b", None]
    reasons = [result["error"] for result in results if result["status"] == "error"]
    for word, reason in zip(
        ("image 0 is NoneType", "image 2 is int", "image 3 is the URL", "none.jpg", "the socket is gone",
         "image 6 is an array of float64", "image 7 is dict", "image 9 is text but not base64"),
        reasons, strict=True,
    ):  # fmt: skip
        assert word in reason


def test_names_that_cannot_be_sent_fail_alone(echoing, client_factory):
    class Odd:
        def __fspath__(self):
            raise RuntimeError("no path")

    names = ["a.jpg", "b\udcff.jpg", b"c.jpg", Odd(), "d.jpg"]

    results, error = collected(client_factory(echoing.host), names)
    files, error_of_files = collected(client_factory(echoing.host), [b"a", Odd(), b"b"], mode="data")

    assert (error, error_of_files) == (None, None)
    assert [result.get("image") for result in results] == ["a.jpg", None, None, None, "d.jpg"]
    assert [result.get("image") for result in files] == [b"a", None, b"b"]
    assert files[1]["error"] == "no path"


def test_an_image_at_which_the_server_fails_fails_alone(echoing, reply, client_factory):
    answer = echoing.otherwise
    echoing.otherwise = lambda seen: reply({"detail": "broken"}, 500) if b"/7.jpg" in seen.body else answer(seen)
    names = [f"a/{name}" for name in NAMES]

    results, error = collected(client_factory(echoing.host), names, batch_size=16)

    assert error is None
    assert [result.get("image") for result in results] == [*names[:7], None, *names[8:]]
    assert (results[7]["status"], results[7]["error"]) == ("error", "500 http_500: broken")
    assert len(extractions(echoing)) <= 2 + 8


def test_a_server_that_fails_at_every_image_is_an_error(echoing, reply, client_factory):
    echoing.otherwise = reply({"detail": "broken"}, 500)

    results, error = collected(client_factory(echoing.host), NAMES, batch_size=4)

    assert results == []
    assert isinstance(error, IFRRejected)
    assert error.stopped == Stopped(0)


def test_a_rejection_is_raised_after_the_results_before_it_and_keeps_those_after_it(echoing, reply, client_factory):
    answer, beyond = echoing.otherwise, threading.Event()

    def reject(seen):
        if b"x6.jpg" in seen.body:
            beyond.wait(60)
            return reply({"detail": "no key"}, 401)
        if b"x10.jpg" in seen.body:  # so that the result of x8.jpg has arrived
            beyond.set()
        return answer(seen)

    echoing.otherwise = reject
    client = client_factory(echoing.host)
    names = [f"x{name}" for name in NAMES]

    results, error = collected(client, names, batch_size=2, concurrency=2)

    assert [result["image"] for result in results] == names[:6]
    assert isinstance(error, IFRRejected)
    assert error.__notes__ == ["extract_many stopped at images 6 to 7, from 'x6.jpg'"]
    assert error.stopped.index == 6
    assert {8, 9} <= set(error.stopped.results)
    assert all(result["image"] == f"x{number}.jpg" for number, result in error.stopped.results.items())

    echoing.otherwise = answer
    echoing.seen.clear()
    rest, none = collected(client, names, batch_size=2, start=error.stopped)

    assert none is None
    assert [result["image"] for result in rest] == names[6:]
    asked = {name for images in extractions(echoing) for name in images["urls"]}
    assert asked == {name for number, name in enumerate(names) if number >= 6 and number not in error.stopped.results}


def test_a_server_that_is_gone_says_where_to_go_on(echoing, client_factory):
    client = client_factory(echoing.host, retries=0)
    answer = echoing.otherwise

    def die(seen):
        if b"9.jpg" in seen.body:
            echoing.server.socket.close()
            raise ConnectionError
        return answer(seen)

    echoing.otherwise = die
    results, error = collected(client, NAMES, batch_size=3, concurrency=1)

    assert [result["image"] for result in results] == NAMES[:9]
    assert isinstance(error, IFRConnectionError)
    assert error.stopped == Stopped(9)
    assert "images 9 to 11, from '9.jpg'" in error.__notes__[0]


def test_a_server_that_is_gone_from_the_start_says_so_too(client_factory):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = client_factory("http://127.0.0.1", unused.getsockname()[1], retries=0)

        results, error = collected(client, NAMES, start=3)

    assert (results, error.stopped) == ([], Stopped(3))


def test_a_collection_that_raises_does_so_after_the_results_of_all_before(echoing, client_factory):
    def disk():
        yield from NAMES[:7]
        raise PermissionError("the disk is gone")

    results, error = collected(client_factory(echoing.host), disk(), batch_size=3)

    assert [result["image"] for result in results] == NAMES[:7]
    assert isinstance(error, PermissionError)
    assert error.__notes__ == ["extract_many stopped at image 7, which its data failed to provide"]


def test_images_before_the_start_are_not_read(echoing, client_factory):
    told = []

    results, error = collected(
        client_factory(echoing.host), NAMES, batch_size=4, start=15, progress=lambda *now: told.append(now)
    )

    assert (error, [result["image"] for result in results]) == (None, NAMES[15:])
    assert told == [(done, 20) for done in range(16, 21)]
    assert sum(len(images["urls"]) for images in extractions(echoing)) == 5


def test_threads_of_a_run_that_has_failed_wait_for_no_more_tries(scripted, reply):
    others = threading.Barrier(3)

    def answer(seen):
        others.wait(60)
        return reply({}, 401) if b"0.jpg" in seen.body else reply({}, 503, {"Retry-After": "50"})

    scripted.otherwise = answer
    began = time.monotonic()
    with IFRClient(scripted.host) as client, pytest.raises(IFRRejected):
        next(client.extract_many(NAMES[:3], batch_size=1, concurrency=3))

    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("ifr-clients")])
    assert time.monotonic() - began < 40


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
