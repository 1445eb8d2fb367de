"""Errors survive the way through gRPC, from our nodes exactly, from others by their status."""

import grpc
import pytest

from mien import errors
from mien.errors import MienError
from mien.nodes.mapping import from_in_band, from_status, in_band, metadata_of, status_of
from mien.nodes.proto.inference_pb2 import Error, ErrorCode, InferResponse

Code = grpc.StatusCode
EVERY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MienError)]
OWN = (errors.Unauthorized, errors.Forbidden)  # a gateway's key is not its caller's


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (422, Code.INVALID_ARGUMENT),
        (415, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (413, Code.RESOURCE_EXHAUSTED),
        (429, Code.RESOURCE_EXHAUSTED),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
        (499, Code.CANCELLED),
        (500, Code.INTERNAL),
        (502, Code.INTERNAL),
        (418, Code.INTERNAL),
    ],
)
def test_each_status_has_its_code(status: int, code: grpc.StatusCode) -> None:
    kind = type("Some", (MienError,), {"status": status, "code": f"some_{status}"})
    assert status_of(kind("x")) is code


def test_our_nodes_errors_come_back_as_they_were() -> None:
    """Every error there is, as a status and in band."""
    for kind in EVERY:
        error = kind("what happened", retry_after=3) if kind is not errors.InvalidField else kind("what happened")
        for found in (
            from_status(status_of(error), error.message, dict(metadata_of(error)), "n:1"),
            from_in_band(in_band(error, "c"), "n:1"),
        ):
            assert "what happened" in found.message, kind
            if kind is errors.Cancelled:  # by the node: its client did not ask for it
                assert found.status == 502
            elif kind in OWN or kind.status == 500:
                assert found.status in (502, 400), kind
            else:
                assert found.code == kind.code
                assert found.retry_after == error.retry_after, kind


@pytest.mark.parametrize(
    ("code", "details", "status"),
    [
        (Code.INVALID_ARGUMENT, "bad", 400),
        (Code.NOT_FOUND, "no", 404),
        (Code.UNAVAILABLE, "gone", 503),
        (Code.FAILED_PRECONDITION, "cold", 503),
        (Code.DEADLINE_EXCEEDED, "late", 504),
        (Code.INTERNAL, "bug", 502),
        (Code.UNKNOWN, "?", 502),
        (Code.UNIMPLEMENTED, "?", 502),
        (Code.UNAUTHENTICATED, "key", 502),
        (Code.PERMISSION_DENIED, "key", 502),
        (Code.RESOURCE_EXHAUSTED, "busy", 429),
        (Code.RESOURCE_EXHAUSTED, "received message larger than max (9 vs. 4)", 413),
    ],
)
def test_other_nodes_codes_have_their_status(code: grpc.StatusCode, details: str, status: int) -> None:
    assert from_status(code, details, {}, "n:1").status == status


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.ERROR_CODE_INVALID_ARGUMENT, 400),
        (ErrorCode.ERROR_CODE_UNAVAILABLE, 503),
        (ErrorCode.ERROR_CODE_DEADLINE_EXCEEDED, 504),
        (ErrorCode.ERROR_CODE_INTERNAL, 502),
        (ErrorCode.ERROR_CODE_UNSPECIFIED, 502),
        (77, 502),
    ],
)
def test_other_nodes_in_band_errors_have_their_status(code: int, status: int) -> None:
    error = Error(code=code, message="boom", detail="line 4")  # type: ignore[arg-type]
    found = from_in_band(InferResponse(error=error), "n:1")
    assert found.status == status
    assert "boom (line 4)" in found.message


def test_what_a_node_says_of_retrying_is_bounded() -> None:
    assert from_status(Code.UNAVAILABLE, "x", {"retry-after": "1e99"}, "n").retry_after == 3600
    assert from_status(Code.UNAVAILABLE, "x", {"retry-after": "soon"}, "n").retry_after is None


def test_a_nodes_words_are_passed_on_in_one_short_line() -> None:
    found = from_status(Code.INVALID_ARGUMENT, "a\x00b\r\n\x1b[31mc\u202ed " + "é" * 100_000, {}, "n:1")
    assert found.message.startswith("a b [31mc d é")
    assert len(found.message.encode()) <= 1024
    in_message = InferResponse(is_final=True, error=Error(code=4, message="x" * 100_000, detail="y"))  # type: ignore[arg-type]
    assert len(from_in_band(in_message, "n:1").message.encode()) < 1100
