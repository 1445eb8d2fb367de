"""Content negotiation and parsing at the edge, without a server."""

import contextlib

import msgspec
import numpy as np
import orjson
import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from mien.errors import InvalidField, RequestError, UnsupportedMediaType
from mien.http.insightface.request import parse
from mien.http.insightface.response import render, response_type
from mien.http.insightface.schema import ExtractRequest
from mien.http.media import JSON, URLENCODED
from mien.settings import Limits

X_MSGPACK = "application/x-msgpack"
MSGPACK = "application/msgpack"


def asking(*accept: str) -> Request:
    return Request({"type": "http", "headers": [(b"accept", value.encode("latin-1")) for value in accept]})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ((), JSON),
        (("",), JSON),
        (("*/*",), JSON),
        ((JSON,), JSON),
        ((X_MSGPACK,), X_MSGPACK),
        ((MSGPACK,), MSGPACK),
        (("Application/X-MsgPack",), X_MSGPACK),
        ((f"{X_MSGPACK}, */*",), X_MSGPACK),
        ((f"{X_MSGPACK};q=0.9, */*;q=0.1",), X_MSGPACK),
        ((f"{JSON}, {X_MSGPACK}",), JSON),
        ((f"{X_MSGPACK}, {JSON}",), X_MSGPACK),
        ((f"{JSON};q=0.5, {X_MSGPACK};q=0.8",), X_MSGPACK),
        ((f"{X_MSGPACK};q=0.5, {JSON};q=0.8",), JSON),
        ((f"{X_MSGPACK};q=0",), JSON),
        ((f"{X_MSGPACK}; q=0, {JSON}",), JSON),
        ((f"{X_MSGPACK};charset=utf-8;q=0.7",), X_MSGPACK),
        ((f"{X_MSGPACK};q=nonsense, {JSON}",), JSON),
        ((JSON, f"{X_MSGPACK};q=0.1"), JSON),
        (("text/html", X_MSGPACK), X_MSGPACK),
        (("text/html", f"{JSON};q=0.2", MSGPACK), MSGPACK),
        ((f"{JSON};q=0.5, */*;q=0.9, {X_MSGPACK};q=0.7",), X_MSGPACK),
    ],
)
def test_the_answer_comes_in_the_type_that_accept_prefers(accept: tuple[str, ...], expected: str) -> None:
    assert response_type(asking(*accept), msgpack=False) == expected


@pytest.mark.parametrize("accept", [(), ("*/*",), (JSON,), (X_MSGPACK,)])
def test_the_bodys_flag_asks_for_messagepack_whatever_accept_says(accept: tuple[str, ...]) -> None:
    assert response_type(asking(*accept), msgpack=True) == X_MSGPACK


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.booleans())
def test_no_accept_header_is_an_error(header: str, msgpack: bool) -> None:
    assert response_type(asking(header), msgpack=msgpack) in {JSON, X_MSGPACK, MSGPACK, "application/vnd.msgpack"}


@pytest.mark.parametrize(
    "content_type",
    [MSGPACK, X_MSGPACK, "application/vnd.msgpack", f"{MSGPACK}; charset=utf-8", "Application/MSGPACK;a=b"],
)
def test_messagepack_is_read_under_every_name_that_it_has(content_type: str) -> None:
    body = ormsgpack.packb({"images": {"data": [b"\xff\xd8"]}})
    assert parse(body, content_type, ExtractRequest, Limits()).images.data == [b"\xff\xd8"]


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        f"{JSON}; charset=utf-8",
        "",
        "application/problem+json",
        "APPLICATION/JSON",
        "application/x-www-form-urlencoded",
    ],
)
def test_json_is_read_with_and_without_a_content_type(content_type: str) -> None:
    assert parse(b'{"images": {"data": ["QUJD"]}}', content_type, ExtractRequest, Limits()).images.data == ["QUJD"]


@pytest.mark.parametrize("content_type", ["text/plain", "image/jpeg", "json"])
def test_other_types_are_refused_by_name(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=content_type):
        parse(b'{"images": {}}', content_type, ExtractRequest, Limits())


def test_a_form_is_refused_by_name_although_curl_says_that_json_were_one() -> None:
    with pytest.raises(UnsupportedMediaType, match="x-www-form-urlencoded"):
        parse(b"images=x", URLENCODED, ExtractRequest, Limits())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_more_than_a_request_error(body: bytes) -> None:
    for kind in (MSGPACK, JSON):
        with contextlib.suppress(RequestError):
            parse(body, kind, ExtractRequest, Limits())


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(0, 5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [*ExtractRequest.model_fields]


@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
def test_wrong_types_in_any_field_are_refused_with_an_answer_that_can_be_written(body: dict[str, object]) -> None:
    packed = msgspec.msgpack.encode(body)
    refused: list[InvalidField] = []
    try:
        parse(packed, MSGPACK, ExtractRequest, Limits())
    except InvalidField as error:
        refused.append(error)
    assert all(error.fields for error in refused)
    assert orjson.dumps([[error.message, *error.fields] for error in refused])


@pytest.mark.parametrize("kind", [JSON, X_MSGPACK])
def test_vectors_are_written_as_they_are(kind: str) -> None:
    vector = np.random.default_rng(1).normal(size=512).astype(np.float32)
    body = render({"vec": vector}, kind).body
    back = orjson.loads(body) if kind == JSON else ormsgpack.unpackb(body)
    assert np.array_equal(np.array(back["vec"], np.float32), vector)


def test_messagepack_writes_floats_of_vectors_in_five_bytes() -> None:
    body = render({"vec": np.ones(512, np.float32)}, X_MSGPACK).body
    assert len(body) < 512 * 5 + 16
