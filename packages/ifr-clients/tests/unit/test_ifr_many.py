import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients import IFRRejected, IFRResponseInvalid
from ifr_clients._many import DEFAULT_BATCH_BYTES, Batch, Batcher, BatchLimits, limits_of

items = st.lists(
    st.one_of(st.binary(max_size=20), st.builds(OSError, st.sampled_from(["gone", "locked"]))), max_size=60
)


def batches_of(images, limits):
    batcher = Batcher(limits)
    made = [batch for image in images if (batch := batcher.add(image))]
    last = batcher.flush()
    return made + ([last] if last else [])


@given(items, st.integers(1, 9), st.integers(1, 50))
def test_batches_keep_everything_in_order_within_the_limits(images, count, size):
    batches = batches_of(images, BatchLimits(count, size))

    sent = [image for batch in batches for image in batch.images]
    assert sent == [image for image in images if isinstance(image, bytes)]
    assert sum(len(batch) for batch in batches) == len(images)
    for batch in batches:
        assert 1 <= len(batch) <= count
        assert len(batch.images) <= 1 or sum(map(len, batch.images)) <= size


@given(items, st.integers(1, 9))
def test_every_image_gets_its_own_result(images, count):
    results = []
    for batch in batches_of(images, BatchLimits(count)):
        answer = {"data": [{"status": "success", "echo": image} for image in batch.images]}
        results += batch.results(answer)

    expected = [str(image) if isinstance(image, OSError) else image for image in images]
    assert [result.get("echo", result.get("error")) for result in results] == expected


def test_images_that_an_original_server_leaves_out_have_failed_for_its_reason():
    batch = Batch([b"1", b"2", b"3"], {})

    results = batch.results({"data": [{"status": "ok"}], "status": "failed", "traceback": "wrong size"})

    assert [result["status"] for result in results] == ["ok", "error", "error"]
    assert results[2]["error"] == "wrong size"


def test_more_results_than_images_are_none():
    with pytest.raises(IFRResponseInvalid, match="the response has 2 images; 1 were sent"):
        Batch([b"1"], {}).results({"data": [{}, {}]})


def test_a_single_image_that_is_too_large_fails_alone():
    too_large = IFRRejected(413, "body_too_large", "over 64 MiB")

    assert Batch([b"1"], {}).stand_in(too_large)["data"][0]["error"] == "over 64 MiB"
    with pytest.raises(IFRRejected):
        Batch([b"1", b"2"], {}).stand_in(too_large)
    with pytest.raises(IFRRejected):
        Batch([b"1"], {}).stand_in(IFRRejected(500, "internal", "broken"))


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
