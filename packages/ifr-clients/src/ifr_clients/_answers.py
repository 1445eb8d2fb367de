"""Responses read: a result, or the error that they are."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ifr_clients._messages import MSGPACK_TYPES, Response, decode
from ifr_clients._retry import retry_after_seconds
from ifr_clients.common_utils import decode_face_data
from ifr_clients.errors import IFRRejected, IFRResponseInvalid

M = TypeVar("M", bound=BaseModel)
LONGEST_MESSAGE = 500  # characters of a body that is no known error
JPEG = b"\xff\xd8\xff"


def raise_for_status(response: Response) -> None:
    """Raise IFRRejected for every status but 2xx."""
    if 200 <= response.status < 300:
        return
    body = _error_body(response)
    code, message = _told(body)
    if location := response.headers.get("location"):
        message = f"{message or 'redirected'} (to {location}: is this the server's address?)"
    found = body.get("request_id") if isinstance(body, dict) else None
    raise IFRRejected(
        status=response.status,
        code=code or f"http_{response.status}",
        message=message or "the answer says nothing",
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


def _told(body: Any) -> tuple[str | None, str | None]:
    """Code and sentence of an error body: Mien's, FastAPI's, or whatever stands before the server."""
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
    """The map that any route answers with."""
    raise_for_status(response)
    return decode(response)


def parse_recognition(response: Response) -> dict[str, Any]:
    """An answer to `/extract` as it came, but for face crops, which become JPEG bytes."""
    answer = parse_map(response)
    for image in _list_of_maps(response, answer.get("data"), "data"):
        if image.get("faces") is not None:
            _list_of_maps(response, image["faces"], "faces")
    try:
        return decode_face_data(answer)
    except ValueError as error:
        raise response.invalid(f"the answer is no recognition: {error}") from error


def _list_of_maps(response: Response, value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise response.invalid(f"the answer is no recognition: {name} must be a list of maps")
    return value


def typed(parse: Callable[[Response], dict[str, Any]], model: type[M]) -> Callable[[Response], M]:
    """`parse`, and its map validated as `model`."""

    def parse_typed(response: Response) -> M:
        try:
            return model.model_validate(parse(response))
        except ValidationError as error:
            raise response.invalid(f"the answer is no {model.__name__}: {error}") from error

    return parse_typed


def complete(answer: dict[str, Any], count: int) -> dict[str, Any]:
    """The answer with an entry for each of `count` images.

    Original servers stop at the first crop that has not 112x112 pixels: the missing entries say so.
    """
    missing = count - len(answer["data"])
    reason = answer.get("traceback") or "the server answered nothing for this image"
    return answer if missing <= 0 else {**answer, "data": [*answer["data"], *[failed_image(reason)] * missing]}


def parse_complete(count: int) -> Callable[[Response], dict[str, Any]]:
    """A parser of answers about `count` images."""

    def parse(response: Response) -> dict[str, Any]:
        answer = parse_recognition(response)
        if len(answer["data"]) > count:
            raise response.invalid(f"the answer has {len(answer['data'])} images; {count} were sent")
        return complete(answer, count)

    return parse


def failed_image(reason: str) -> dict[str, Any]:
    """What an image is answered with that failed before the server could say so."""
    return {"status": "error", "took_ms": 0.0, "faces": [], "error": reason}


def parse_jpeg(response: Response) -> bytes:
    """A drawn image. Original servers call it image/png, but it is a JPEG."""
    raise_for_status(response)
    if not response.body.startswith(JPEG):
        shown = response.media_type or "no stated type"
        raise response.invalid(f"the answer ({shown}, {len(response.body)} bytes) is no JPEG image")
    return response.body
