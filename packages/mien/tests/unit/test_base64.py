"""Base64 as clients actually send it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.base64 import decode_base64
from mien.errors import ImageError, ImageTooLarge

DATA = bytes(range(256)) + b"\xfb\xff"
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.encode(),
        memoryview(TEXT.encode()),
        f"data:image/jpeg;base64,{TEXT}",
        f" DATA:;base64,{TEXT}",
        f"data:image/png;charset=x;base64,{TEXT}",
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.encodebytes(DATA).decode(),
        "\r\n" + TEXT + "\n",
    ],
)
def test_every_usual_spelling_is_read(text: str | bytes | memoryview) -> None:
    assert decode_base64(text, max_bytes=1000) == DATA


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("abc!", "'!'"),
        ("ab=c", "after its padding"),
        ("abcde", "cut off"),
        ("data:image/png,abc", ";base64,"),
        ("äbcd", "'ä'"),
        ("ab===", "more than two"),
        ("https://x/y.jpg", "':'"),
    ],
)
def test_other_text_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_base64(text, max_bytes=1000)


def test_the_limit_is_on_the_decoded_bytes() -> None:
    assert len(decode_base64(TEXT, max_bytes=len(DATA))) == len(DATA)
    assert len(decode_base64(base64.encodebytes(DATA), max_bytes=len(DATA))) == len(DATA)
    with pytest.raises(ImageTooLarge):
        decode_base64(TEXT, max_bytes=len(DATA) - 1)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_what_was_encoded_comes_back(data: bytes, padded: bool, url_safe: bool) -> None:
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data)
    assert decode_base64(text if padded else text.rstrip(b"="), max_bytes=200) == data


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_decoded_or_refused(text: str | bytes) -> None:
    try:
        decode_base64(text, max_bytes=30)
    except ImageError as error:
        if len(error.message) > 200:
            pytest.fail(error.message)
