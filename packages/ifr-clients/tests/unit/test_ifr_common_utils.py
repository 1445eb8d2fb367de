import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients.common_utils import b64_encode_data, decode_face_data, read_image, to_bool, to_chunks


@given(st.lists(st.integers()), st.integers(1, 12))
def test_chunks_hold_everything_in_order(items, size):
    chunks = list(to_chunks(iter(items), size))

    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= size for chunk in chunks)


def test_chunks_are_of_ten_and_never_of_none():
    assert [len(chunk) for chunk in to_chunks(range(25))] == [10, 10, 5]
    with pytest.raises(ValueError, match="size is 0"):
        to_chunks([], 0)


def test_read_image_reads_the_file(tmp_path):
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8")

    assert read_image(tmp_path / "image.jpg") == read_image(str(tmp_path / "image.jpg")) == b"\xff\xd8"


@given(st.lists(st.binary(), min_size=1))
def test_face_data_is_decoded_to_what_was_encoded(crops):
    answer = {"data": [{"faces": [{"facedata": text}]} for text in b64_encode_data(crops)]}

    decoded = decode_face_data(answer)

    assert decoded is answer
    assert [image["faces"][0]["facedata"] for image in decoded["data"]] == crops


def test_face_data_that_is_missing_null_or_decoded_stays():
    answer = {"data": [{"faces": [{}, {"facedata": None}, {"facedata": b"x"}]}, {"faces": None}, {}]}

    assert decode_face_data(answer)["data"][0]["faces"] == [{}, {"facedata": None}, {"facedata": b"x"}]


def test_encoded_data_is_plain_base64():
    encoded = base64.b64encode(b"\xff\xfe\xfd").decode()
    assert b64_encode_data([b"\xff\xfe\xfd", encoded]) == [encoded, encoded]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("True", True), (" yes", True), ("1", True), ("OFF", False), ("n", False), (True, True), (False, False)],
)
def test_words_are_yes_or_no(word, meaning):
    assert to_bool(word) is meaning


def test_other_words_are_neither():
    with pytest.raises(ValueError, match="'maybe' is not a truth value"):
        to_bool("maybe")
