import base64
import json
from pathlib import Path

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients._images import accept_all, is_slow, load, load_or_reason, request_body
from ifr_clients._messages import Response, decode, encode

JPEG = b"\xff\xd8\xff\xe0 an image"
TEXT = base64.b64encode(JPEG).decode()


@pytest.mark.parametrize(
    "image",
    [
        JPEG,
        bytearray(JPEG),
        memoryview(JPEG),
        TEXT,
        f"data:image/jpeg;base64,{TEXT}",
        f"DATA:image/jpeg;BASE64,{TEXT}",
        "\n".join([TEXT[:8], TEXT[8:]]) + "\n",
        "data:,%FF%D8%FF%E0 an image",
    ],
    ids=["bytes", "bytearray", "memoryview", "base64", "data URL", "DATA URL", "base64 in lines", "percent-encoded"],
)
def test_data_mode_takes_every_form_of_the_same_image(image):
    assert accept_all([image], "data") == [JPEG]


def test_data_mode_reads_files_when_they_are_loaded(tmp_path):
    (tmp_path / "image.jpg").write_bytes(JPEG)

    (accepted,) = accept_all([tmp_path / "image.jpg"], "data")

    assert load(accepted) == JPEG


@pytest.mark.parametrize(
    "location", ["https://example.com/image2.jpg", "test_images/Stallone.jpg", "/abs/path.png", "", "x" * 4096]
)
def test_paths_mode_takes_urls_and_paths_on_the_server(location):
    assert accept_all([location], "paths") == [location]


def test_a_long_url_is_still_a_url():
    assert accept_all(["https://example.com/?" + "x" * 9000], "paths")


@pytest.mark.parametrize(
    ("image", "mode", "says"),
    [
        (JPEG, "paths", "data[0] is bytes: mode='paths' takes URLs and paths on the server"),
        (bytearray(JPEG), "paths", "data[0] is bytearray: mode='paths'"),
        (Path("image.jpg"), "paths", "data[0] is a pathlib.Path, a file of this machine: send it with mode='data'"),
        (f"data:image/jpeg;base64,{TEXT}", "paths", "contains the image itself: send it with mode='data'"),
        (TEXT * 400, "paths", "which looks like base64 rather than a URL or path"),
        (None, "paths", "data[0] is NoneType"),
        ("https://example.com/image2.jpg", "data", "data[0] is the URL 'https://example.com/image2.jpg'"),
        ("s3://bucket/image.jpg", "data", "let the server fetch it with mode='paths'"),
        ("image.jpg", "data", "pass a pathlib.Path"),
        ("not base64!", "data", "data[0] is text but not base64"),
        ("bläh", "data", "data[0] is text but not base64"),
        (TEXT[:-1], "data", "data[0] is text but not base64"),
        ("data:image/jpeg;base64", "data", "data: URI without a comma"),
        ("data:image/jpeg;base64,???", "data", "not base64"),
        (3, "data", "data[0] is int: mode='data' takes encoded images"),
        (JPEG, "bytes", "mode is 'bytes'; expected 'paths' or 'data'"),
    ],
)
def test_an_image_that_does_not_fit_the_mode_is_named_with_what_to_do(image, mode, says):
    with pytest.raises(ValueError, match=r"\S") as error:
        accept_all([image], mode)

    assert says in str(error.value)


def test_the_wrong_image_is_counted():
    with pytest.raises(ValueError, match=r"data\[2\] is the URL"):
        accept_all([JPEG, JPEG, "http://example.com"], "data")


@pytest.mark.parametrize("data", ["https://example.com/a.jpg", JPEG, Path("image.jpg")])
def test_a_single_image_in_place_of_a_list_is_told_apart(data):
    with pytest.raises(ValueError, match="expected a list of images"):
        accept_all(data, "paths")


def test_an_unreadable_file_is_an_error_or_its_reason(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.jpg")

    assert isinstance(load_or_reason(tmp_path / "none.jpg"), FileNotFoundError)


def test_files_and_megabytes_are_slow():
    assert is_slow([Path("image.jpg")])
    assert is_slow([bytes(600_000), bytes(600_000)])
    assert not is_slow([JPEG, "https://example.com"])
    assert not is_slow([])


def test_no_images_are_no_images():
    assert json.loads(request_body([], {"limit_faces": 0}, msgpack=False)) == {"images": {"data": []}, "limit_faces": 0}


@given(st.lists(st.binary(min_size=1)), st.booleans())
def test_images_arrive_as_they_were_sent_in_either_format(images, msgpack):
    body = request_body(accept_all(images, "data"), {"threshold": 0.6}, msgpack=msgpack)

    if msgpack:
        arrived = ormsgpack.unpackb(body)["images"]["data"]
    else:
        arrived = [base64.b64decode(text, validate=True) for text in json.loads(body)["images"]["data"]]
    assert arrived == images


@given(st.lists(st.binary(min_size=1)))
def test_base64_and_bytes_make_the_same_request(images):
    as_text = [base64.b64encode(image).decode() for image in images]

    assert accept_all(as_text, "data") == accept_all(images, "data")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=5), st.booleans())
def test_whatever_is_encoded_is_decoded_again(body, msgpack):
    kind = "application/x-msgpack" if msgpack else "application/json; charset=utf-8"

    assert decode(Response(200, {"content-type": kind}, encode(body, msgpack=msgpack))) == body
