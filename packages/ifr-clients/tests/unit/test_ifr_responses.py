import contextlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifr_clients import IFRConnectionError, IFRError, IFRRejected, IFRResponseInvalid, IFRTimeout
from ifr_clients._messages import Response
from ifr_clients._responses import parse_jpeg, parse_map, parse_recognition

JSON = {"content-type": "application/json"}


def rejection(status, body, headers=JSON):
    with pytest.raises(IFRRejected) as caught:
        parse_map(Response(status, headers, body))
    return caught.value


def test_an_error_of_mien_keeps_its_code_sentence_and_request_id():
    body = (
        b'{"success": false, "error": {"code": "overloaded", "message": "the queue is full"}, '
        b'"message": "the queue is full", "detail": "the queue is full", "request_id": "abc"}'
    )

    error = rejection(429, body, {**JSON, "retry-after": "3", "x-request-id": "from-header"})

    assert (error.status, error.code, error.message, error.request_id) == (
        429,
        "overloaded",
        "the queue is full",
        "abc",
    )
    assert error.retry_after == 3
    assert error.body["detail"] == "the queue is full"
    assert str(error) == "429 overloaded: the queue is full (request id abc)"


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b'{"detail": "There was an error parsing the body"}', JSON, "There was an error parsing the body"),
        (
            b'{"detail": [{"type": "missing", "loc": ["body", "images"], "msg": "Field required"}]}',
            JSON,
            "body.images: Field required",
        ),
        (b"Internal Server Error", {"content-type": "text/plain"}, "Internal Server Error"),
        (
            b"<html><head><title>502 Bad Gateway</title><style>p {}</style></head><body><h1>nginx</h1></body></html>",
            {"content-type": "text/html"},
            "502 Bad Gateway nginx",
        ),
        (b"", {}, "the response has no message"),
        (b"{}", JSON, "the response has no message"),
        (b"[1]", JSON, "[1]"),
        (b'{"error": "plain"}', JSON, "plain"),
        (b'{"message": "only this"}', JSON, "only this"),
        (b"not json", JSON, "not json"),
        (b"\xff\xfe", JSON, "��"),
    ],
)
def test_every_kind_of_error_body_says_what_it_can(body, headers, message):
    error = rejection(500, body, headers)

    assert error.message == message
    assert error.code == "http_500"


def test_a_redirect_is_an_error_that_says_where_to():
    error = rejection(307, b"", {"location": "https://faces.example.com/extract"})

    assert "https://faces.example.com/extract" in str(error)


@given(st.integers(100, 599).filter(lambda status: not 200 <= status < 300), st.binary(), st.sampled_from([JSON, {}]))
def test_no_other_status_is_ever_a_result(status, body, headers):
    rejection(status, body, headers)


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"<html>login</html>", {"content-type": "text/html"}, "text/html, 18 bytes) cannot be parsed"),
        (b"", {}, "no content type, 0 bytes"),
        (b"[]", JSON, "must be a map; got list"),
        (b"{}", JSON, "data must be a list of maps"),
        (b'{"data": [1]}', JSON, "data must be a list of maps"),
        (b'{"data": [{"faces": {"0": 1}}]}', JSON, "faces must be a list of maps"),
        (b'{"data": [{"faces": [{"facedata": "abc"}]}]}', JSON, "facedata is not valid base64"),
        (b"\xc1", {"content-type": "application/x-msgpack"}, "application/x-msgpack, 1 bytes"),
        (b"\x81\xa4data", {"content-type": "application/msgpack"}, "cannot be parsed"),
    ],
)
def test_a_good_status_with_another_body_is_invalid(body, headers, says):
    with pytest.raises(IFRResponseInvalid) as caught:
        parse_recognition(Response(200, {**headers, "x-request-id": "abc"}, body))

    assert says in str(caught.value)
    assert caught.value.request_id == "abc"
    assert caught.value.body == body


@given(st.binary(), st.sampled_from(["application/json", "application/x-msgpack", "text/html", ""]))
def test_any_bytes_are_a_result_or_an_error_of_this_library(body, kind):
    with contextlib.suppress(IFRResponseInvalid):
        assert isinstance(parse_recognition(Response(200, {"content-type": kind}, body))["data"], list)


def test_drawn_images_are_jpeg():
    assert parse_jpeg(Response(200, {"content-type": "image/png"}, b"\xff\xd8\xff rest")) == b"\xff\xd8\xff rest"
    with pytest.raises(IFRResponseInvalid, match="is not a JPEG image"):
        parse_jpeg(Response(200, JSON, b"{}"))


@pytest.mark.parametrize(
    "error",
    [
        IFRRejected(429, "overloaded", "full", "abc", {"detail": "full"}, 3.0),
        IFRResponseInvalid("no map", "abc", b"[]"),
        IFRConnectionError("cut"),
        IFRTimeout("late"),
    ],
)
def test_errors_survive_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert isinstance(again, IFRError)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_errors_are_what_python_calls_them():
    assert issubclass(IFRConnectionError, ConnectionError)
    assert issubclass(IFRTimeout, TimeoutError)
