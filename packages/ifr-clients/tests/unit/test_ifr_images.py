import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import ormsgpack
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients._images import Deferred, accept_all, is_slow, label, load, load_or_reason, request_body
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

    with os.scandir(tmp_path) as entries, (tmp_path / "image.jpg").open("rb") as file:
        images = [tmp_path / "image.jpg", next(entries), file, io.BytesIO(JPEG)]
        accepted = accept_all(images, "data")

        assert [load(image) for image in accepted] == [JPEG] * 4


def pixels_of(image):
    (accepted,) = accept_all([image], "data")
    return np.asarray(PIL.Image.open(io.BytesIO(load(accepted))))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (300, 2, 3)])
def test_arrays_arrive_pixel_by_pixel(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    red_first = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    for way in (array, np.asfortranarray(array), array[::-1, ::-1], array[:, :1]):
        rgb = way[..., red_first[shape[2]]] if shape[2:] in ((3,), (4,)) else way.reshape(way.shape[:2])
        assert np.array_equal(pixels_of(way), rgb)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "F", "I;16"])
def test_images_of_pil_arrive_pixel_by_pixel(mode):
    image = PIL.Image.new("RGB", (9, 6), (200, 30, 90))
    image.putpixel((4, 2), (1, 2, 3))
    image = PIL.Image.fromarray(np.arange(54, dtype=np.uint16).reshape(6, 9)) if mode == "I;16" else image.convert(mode)

    sent = PIL.Image.open(io.BytesIO(load(accept_all([image], "data")[0])))

    assert np.array_equal(np.asarray(sent.convert("RGB")), np.asarray(image.convert("RGB")))


def test_an_image_of_pil_keeps_the_orientation_of_its_file():
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x9003] = 6, "2026:01:01 00:00:00"
    file = io.BytesIO()
    PIL.Image.new("RGB", (9, 6)).save(file, "JPEG", exif=exif)

    sent = PIL.Image.open(io.BytesIO(load(accept_all([PIL.Image.open(file)], "data")[0])))

    assert sent.size == (9, 6)
    assert dict(sent.getexif()) == {0x0112: 6}


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((3, 4, 4), np.uint8)[:, :, :2],
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused_with_their_shape(array):
    with pytest.raises(ValueError, match=r"data\[0\] is an array of .* expected uint8 with shape") as error:
        accept_all([array], "data")

    assert str(array.shape) in str(error.value)


def test_a_file_that_reads_text_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with (tmp_path / "a.txt").open() as file:
        (accepted,) = accept_all([file], "data")

        with pytest.raises(
            ValueError, match=r"data\[0\] is an open file that reads str; expected bytes: open\(path, 'rb'\)"
        ):
            load(accepted)


def test_whatever_an_open_file_raises_concerns_its_image_alone():
    class Broken:
        def read(self):
            raise RuntimeError("the socket is gone")

    (accepted,) = accept_all([Broken()], "data")

    assert str(load_or_reason(accepted)) == "the socket is gone"


def test_images_are_called_by_their_location():
    assert label("a.jpg") == "'a.jpg'"
    assert label(Path("b.jpg")) == "'b.jpg'"
    assert label(b"bytes") == "bytes"
    assert len(label("x" * 1000)) < 130


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
        ("a\udcff.jpg", "paths", "data[0] is 'a\\udcff.jpg', which is not valid Unicode: surrogates not allowed"),
        ("a\udcff.jpg", "data", "data[0] is text but not base64"),
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


@pytest.mark.parametrize(
    "data",
    [
        "https://example.com/a.jpg",
        JPEG,
        Path("image.jpg"),
        io.BytesIO(JPEG),
        np.zeros((4, 4, 3), np.uint8),
        PIL.Image.new("L", (4, 4)),
    ],
)
def test_a_single_image_in_place_of_a_list_is_told_apart(data):
    with pytest.raises(ValueError, match="expected a list of images"):
        accept_all(data, "paths")


@pytest.mark.parametrize("data", [None, 7, 1.5, True, {"a": JPEG}, object()])
@pytest.mark.parametrize("mode", ["paths", "data"])
def test_what_is_no_list_is_a_type_error_in_words(data, mode):
    with pytest.raises(TypeError, match=f"data is {type(data).__name__}; expected a list of images"):
        accept_all(data, mode)


def test_any_iterable_will_do():
    arrays = np.zeros((2, 4, 4, 3), np.uint8)
    assert len(accept_all(arrays, "data")) == 2
    assert accept_all((name for name in "ab"), "paths") == ["a", "b"]
    assert accept_all({"a"}, "paths") == ["a"]


def test_an_unreadable_file_is_an_error_or_its_reason(tmp_path):
    (accepted,) = accept_all([tmp_path / "none.jpg"], "data")
    with pytest.raises(FileNotFoundError):
        load(accepted)

    assert isinstance(load_or_reason(accepted), FileNotFoundError)


def test_files_pixels_and_megabytes_are_slow():
    assert is_slow([Deferred(bytes)])
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
