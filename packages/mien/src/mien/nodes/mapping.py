"""Mien's errors as gRPC statuses and in-band errors, and back.

Beside the status, a Mien node sends `mien-error-code` (and `retry-after`) in the trailing metadata, or in the meta of
an in-band error, so that a Mien gateway answers exactly what the node would have answered itself.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from grpc import StatusCode

from mien.errors import (
    BodyTooLarge,
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    MienError,
    NodeFailed,
    NodeLost,
    NotFound,
    Overloaded,
    RequestError,
    Unauthorized,
    Unavailable,
    class_of_code,
)
from mien.nodes.proto.inference_pb2 import Error, ErrorCode, InferResponse

CODE_KEY = "mien-error-code"
RETRY_KEY = "retry-after"
CUT_OFF = "Internal error from Core"
"""The details of gRPC for Python when the peer ends a call to which messages are still being written."""

MAX_TEXT_BYTES = 1024
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_STATUSES = MappingProxyType(
    {
        400: StatusCode.INVALID_ARGUMENT,
        401: StatusCode.UNAUTHENTICATED,
        403: StatusCode.PERMISSION_DENIED,
        404: StatusCode.NOT_FOUND,
        408: StatusCode.DEADLINE_EXCEEDED,
        413: StatusCode.RESOURCE_EXHAUSTED,
        415: StatusCode.INVALID_ARGUMENT,
        422: StatusCode.INVALID_ARGUMENT,
        429: StatusCode.RESOURCE_EXHAUSTED,
        499: StatusCode.CANCELLED,
        503: StatusCode.UNAVAILABLE,
        504: StatusCode.DEADLINE_EXCEEDED,
    }
)
_ERRORS: Mapping[StatusCode, type[MienError]] = MappingProxyType(
    {
        StatusCode.INVALID_ARGUMENT: RequestError,
        StatusCode.OUT_OF_RANGE: RequestError,
        StatusCode.NOT_FOUND: NotFound,
        StatusCode.RESOURCE_EXHAUSTED: Overloaded,
        StatusCode.UNAVAILABLE: Unavailable,
        StatusCode.FAILED_PRECONDITION: Unavailable,
        StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    }
)
_IN_BAND: Mapping[int, type[MienError]] = MappingProxyType(
    {
        ErrorCode.ERROR_CODE_INVALID_ARGUMENT: RequestError,
        ErrorCode.ERROR_CODE_UNAVAILABLE: Unavailable,
        ErrorCode.ERROR_CODE_DEADLINE_EXCEEDED: DeadlineExceeded,
    }
)


class CutOff(NodeLost):
    """The node ended the call while the request was being sent, for a reason that gRPC lost."""


def status_of(error: MienError) -> StatusCode:
    """The gRPC status that corresponds to the error's HTTP status."""
    return _STATUSES.get(error.status, StatusCode.INTERNAL)


def metadata_of(error: MienError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata: what the status alone does not say."""
    retry = () if error.retry_after is None else ((RETRY_KEY, f"{error.retry_after:g}"),)
    return ((CODE_KEY, error.code), *retry)


def in_band(error: MienError, correlation_id: str) -> InferResponse:
    """The final message of a request that failed while others of its stream go on."""
    return InferResponse(
        correlation_id=correlation_id,
        is_final=True,
        meta=dict(metadata_of(error)),
        error=Error(code=_in_band_code(error), message=error.message, detail=error.code),
    )


def _in_band_code(error: MienError) -> ErrorCode:
    if error.status in (408, 504):
        return ErrorCode.ERROR_CODE_DEADLINE_EXCEEDED
    if error.status in (429, 503):
        return ErrorCode.ERROR_CODE_UNAVAILABLE
    return ErrorCode.ERROR_CODE_INVALID_ARGUMENT if error.status < 499 else ErrorCode.ERROR_CODE_INTERNAL


def from_status(status: StatusCode, details: str, trailing: Mapping[str, str], node: str) -> MienError:
    """The error that a node's gRPC status becomes for the gateway's client."""
    known = _known(trailing.get(CODE_KEY))
    if known is None and details == CUT_OFF:
        return CutOff(f"node {node} ended the call while the request was being sent")
    if known is None and status is StatusCode.UNAVAILABLE:  # gRPC's own status for a connection that breaks
        known = NodeLost
    if known is None and status is StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        known = BodyTooLarge  # gRPC's own words for a message over the receiver's limit
    return _build(known or _ERRORS.get(status, NodeFailed), details or status.name, trailing, node)


def from_in_band(response: InferResponse, node: str) -> MienError:
    """The error that a node reported in a message of its response."""
    error = response.error
    known = _known(response.meta.get(CODE_KEY))
    message = error.message or ErrorCode.Name(error.code) if error.code in ErrorCode.values() else error.message
    if error.detail and known is None:
        message = f"{message} ({error.detail})"
    return _build(known or _IN_BAND.get(error.code, NodeFailed), message, response.meta, node)


def plain_text(text: str) -> str:
    """A node's words as they may be passed on: one line of at most 1 kB."""
    line = " ".join(_CONTROLS.sub(" ", text[: 4 * MAX_TEXT_BYTES]).split())
    if len(line.encode()) <= MAX_TEXT_BYTES:
        return line
    return line.encode()[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"


def _build(kind: type[MienError], message: str, extra: Mapping[str, str], node: str) -> MienError:
    message = plain_text(message)
    if kind.status >= 500 or kind is Overloaded:
        message = f"node {node}: {message}"
    error = kind(message)
    error.retry_after = _seconds(extra.get(RETRY_KEY))
    return error


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else min(3600.0, max(0.0, float(text)))
    except ValueError:
        return None


def _known(code: str | None) -> type[MienError] | None:
    """The class of an error code that another Mien server sent.

    None for what is not the fault of the gateway's client: its own key, faults of the node, and a request that the node
    cancelled on its own.
    """
    kind = class_of_code(code or "")
    return None if kind is None or kind in (Unauthorized, Forbidden, Cancelled) or kind.status == 500 else kind
