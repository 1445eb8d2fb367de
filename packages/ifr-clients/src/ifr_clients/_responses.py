"""Parses responses into results, or raises the error that they contain."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ifr_clients._messages import MSGPACK_TYPES, Response, decode
from ifr_clients._retry import retry_after_seconds
from ifr_clients.common_utils import decode_face_data
from ifr_clients.errors import IFRRejected, IFRResponseInvalid

M = TypeVar("M", bound=BaseModel)
LONGEST_MESSAGE = 500  # characters of a body that is not a known error
JPEG = b"\xff\xd8\xff"


def raise_for_status(response: Response) -> None:
    """Raise IFRRejected for every status but 2xx."""
    if 200 <= response.status < 300:
        return
    body = _error_body(response)
    code, message = _code_and_message(body)
    if location := response.headers.get("location"):
        message = f"{message or 'redirected'} (to {location}: is this the server's address?)"
    found = body.get("request_id") if isinstance(body, dict) else None
    raise IFRRejected(
        status=response.status,
        code=code or f"http_{response.status}",
        message=message or "the response has no message",
        request_id=found if isinstance(found, str) else response.request_id,
        body=body,
        retry_after=retry_after_seconds(response.headers.get("retry-after")),
    )


def _error_body(response: Response) -> Any:
    if response.media_type in MSGPACK_TYPES or response.media_type.endswith("json"):
        try:
            return decode(response)
        except IFRResponseInvalid:
            pass
    return response.body.decode("utf-8", "replace")


def _code_and_message(body: Any) -> tuple[str | None, str | None]:
    """Code and message of an error body: Mien's, FastAPI's, or that of a proxy in front of the server."""
    if not isinstance(body, dict):
        text = re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>", " ", body)
        return None, " ".join(text.split())[:LONGEST_MESSAGE]
    error = body.get("error")
    if isinstance(error, dict):
        return _text(error.get("code")), _text(error.get("message"))
    detail = body.get("detail", error)
    if isinstance(detail, list):
        return None, "; ".join(_field_problem(item) for item in detail)[:LONGEST_MESSAGE]
    return None, _text(body.get("message")) or _text(detail)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:LONGEST_MESSAGE]


def _field_problem(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    place = ".".join(str(part) for part in item.get("loc") or ())
    return f"{place}: {item.get('msg', item)}"


def parse_map(response: Response) -> dict[str, Any]:
    """The map that any route returns."""
    raise_for_status(response)
    return decode(response)


def parse_recognition(response: Response) -> dict[str, Any]:
    """A response of `/extract` as received, except that face crops are decoded to JPEG bytes."""
    body = parse_map(response)
    for image in _list_of_maps(response, body.get("data"), "data"):
        if image.get("faces") is not None:
            _list_of_maps(response, image["faces"], "faces")
    try:
        return decode_face_data(body)
    except ValueError as error:
        raise response.invalid(f"the response is not a recognition: {error}") from error


def _list_of_maps(response: Response, value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise response.invalid(f"the response is not a recognition: {name} must be a list of maps")
    return value


def typed(parse: Callable[[Response], dict[str, Any]], model: type[M]) -> Callable[[Response], M]:
    """`parse`, followed by validation of its map as `model`."""

    def parse_typed(response: Response) -> M:
        try:
            return model.model_validate(parse(response))
        except ValidationError as error:
            raise response.invalid(f"the response is not a valid {model.__name__}: {error}") from error

    return parse_typed


def complete(body: dict[str, Any], count: int) -> dict[str, Any]:
    """The response, completed to one entry for each of `count` images.

    Original servers stop at the first crop that is not 112x112 pixels; the added entries carry that error.
    """
    missing = count - len(body["data"])
    reason = body.get("traceback") or "the server returned no result for this image"
    return body if missing <= 0 else {**body, "data": [*body["data"], *[failed_image(reason)] * missing]}


def parse_complete(count: int) -> Callable[[Response], dict[str, Any]]:
    """A parser of responses for `count` images."""

    def parse(response: Response) -> dict[str, Any]:
        body = parse_recognition(response)
        if len(body["data"]) > count:
            raise response.invalid(f"the response has {len(body['data'])} images; {count} were sent")
        return complete(body, count)

    return parse


def failed_image(reason: str) -> dict[str, Any]:
    """The result of an image that failed before the server returned one."""
    return {"status": "error", "took_ms": 0.0, "faces": [], "error": reason}


def parse_jpeg(response: Response) -> bytes:
    """A drawn image. Original servers declare it as image/png, but it is a JPEG."""
    raise_for_status(response)
    if not response.body.startswith(JPEG):
        shown = response.media_type or "no content type"
        raise response.invalid(f"the response ({shown}, {len(response.body)} bytes) is not a JPEG image")
    return response.body
