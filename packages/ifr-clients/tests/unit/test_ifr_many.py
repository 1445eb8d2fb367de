import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients import IFRRejected, IFRResponseInvalid, Stopped
from ifr_clients._many import (
    DEFAULT_BATCH_BYTES,
    Batch,
    Batcher,
    BatchLimits,
    Finished,
    answers_of,
    check_arguments,
    limits_of,
    stopped_at,
)

known = st.builds(lambda reason: {"status": "error", "error": reason}, st.sampled_from(["gone", "locked"]))
items = st.lists(st.one_of(st.binary(max_size=20), known), max_size=60)


def batches_of(images, limits, first=0):
    batcher = Batcher(limits, first)
    made = []
    for number, image in enumerate(images, first):
        add = batcher.add if isinstance(image, bytes) else batcher.add_known
        made += [batch] if (batch := add(image, f"{number}.jpg")) else []
    last = batcher.flush()
    return made + ([last] if last else [])


@given(items, st.integers(1, 9), st.integers(1, 50), st.integers(0, 3))
def test_batches_keep_everything_in_order_within_the_limits(images, count, size, first):
    batches = batches_of(images, BatchLimits(count, size), first)

    sent = [image for batch in batches for image in batch.images]
    assert sent == [image for image in images if isinstance(image, bytes)]
    assert sum(len(batch) for batch in batches) == len(images)
    for batch in batches:
        assert 1 <= len(batch) <= count
        assert len(batch.images) <= 1 or sum(map(len, batch.images)) <= size
        assert batch.first == first
        assert batch.name == f"{first}.jpg"
        first += len(batch)


@given(items, st.integers(1, 9))
def test_every_image_gets_its_own_result(images, count):
    results = []
    for batch in batches_of(images, BatchLimits(count)):
        results += batch.finished([{"status": "success", "echo": image} for image in batch.images]).results

    assert [result.get("echo", result) for result in results] == images


def test_an_original_server_stops_at_an_image_which_has_failed_for_its_reason():
    response = {"data": [{"status": "ok"}], "status": "failed", "traceback": "wrong size"}

    first, second = answers_of(response, 3)

    assert first == {"status": "ok"}
    assert (second["status"], second["error"]) == ("error", "wrong size")


def test_more_results_than_images_are_none():
    with pytest.raises(IFRResponseInvalid, match="the response has 2 images; 1 were sent"):
        answers_of({"data": [{}, {}]}, 1)


def test_an_image_that_the_server_rejects_alone_fails_alone():
    too_large, broken = IFRRejected(413, "body_too_large", "over 64 MiB"), IFRRejected(500, "http_500", "broken")

    assert Batch(0, [b"1"]).finished([broken]).results[0]["error"] == "500 http_500: broken"
    assert [result["error"] for result in Batch(0, [b"1", b"2"]).finished([too_large, broken]).results] == [
        "over 64 MiB",
        "500 http_500: broken",
    ]


def test_a_server_that_fails_at_every_image_is_broken():
    broken = IFRRejected(500, "http_500", "broken")

    with pytest.raises(IFRRejected, match="broken"):
        Batch(0, [b"1", b"2"]).finished([broken, broken])


def test_where_it_stopped_has_the_results_beyond():
    parts = [Finished(4, ["d", "e", "f"]), Finished(10, ["k", "l"])]

    stopped = stopped_at(5, Stopped(2, {3: "c", 9: "j"}), parts)

    assert stopped == Stopped(5, {5: "e", 6: "f", 9: "j", 10: "k", 11: "l"})


@pytest.mark.parametrize(
    ("data", "keywords", "kind", "says"),
    [
        (None, {}, TypeError, "data is NoneType; expected a list of images"),
        (7, {}, TypeError, "data is int; expected a list of images"),
        ({"a.jpg": 1}, {}, TypeError, "data is dict; expected a list of images"),
        ("a.jpg", {}, ValueError, "data is a single str; expected a list of images"),
        ([], {"mode": "bytes"}, ValueError, "mode is 'bytes'"),
        ([], {"batch_size": 0}, ValueError, "batch_size is 0"),
        ([], {"concurrency": 0}, ValueError, "concurrency is 0"),
        ([], {"start": -1}, ValueError, "start is -1"),
    ],
)
def test_what_cannot_be_begun_is_named_at_once(data, keywords, kind, says):
    arguments = {"batch_size": None, "concurrency": 4, "mode": "paths", "start": None, **keywords}

    with pytest.raises(kind, match=says):
        check_arguments(data, **arguments, asynchronous=False)


@pytest.mark.parametrize(
    ("info", "images"),
    [
        ({}, 16),
        ({"models": {"det_batch_size": 1, "rec_batch_size": 1}, "limits": {"max_images": 256}}, 16),
        ({"models": {"det_batch_size": 8, "rec_batch_size": 64}}, 64),
        ({"models": {"det_batch_size": 32}, "limits": {"max_images": 4}}, 4),
        ({"models": {"det_batch_size": None}, "limits": None}, 16),
    ],
)
def test_the_default_batch_is_the_servers(info, images):
    assert limits_of(info).images == images


def test_a_batch_fits_the_servers_body():
    assert limits_of({"limits": {"max_body_bytes": 1000}}).size == pytest.approx(700)
    assert limits_of({"limits": {"max_body_bytes": 10**12}}).size == DEFAULT_BATCH_BYTES
