"""Parses responses into payloads, or raises the error that they contain."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from inferencesh._messages import Response
from inferencesh._status import in_our_numbers
from inferencesh.errors import APIError, RequirementError, RequirementsNotMetError, SetupAction

LONGEST_MESSAGE = 500  # characters of a body that is not a known error
LONGEST_BODY = 65536  # characters of an error's body that are kept


def raise_for_status(response: Response) -> None:
    """Raise APIError or RequirementsNotMetError for every status but 2xx."""
    if not 200 <= response.status < 300:
        raise error_of(response, _json(response))


def parse_data(response: Response) -> Any:
    """The payload of a response, in any of the envelopes that servers use; None if there is no body."""
    raise_for_status(response)
    if not response.body:
        return None
    body = _json(response)
    if body is None and response.body.strip() != b"null":
        shown = response.media_type or "no stated type"
        raise _api_error(
            response, f"the response ({shown}, {len(response.body)} bytes) is not JSON: is this the right server?"
        )
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("success"), bool):
        if not body["success"]:
            raise error_of(response, body)
        return body.get("data")
    return body["data"] if body.keys() <= {"data", "messages"} and "data" in body else body


def parse_map(response: Response) -> dict[str, Any]:
    """A payload that must be a map."""
    data = parse_data(response)
    if not isinstance(data, dict):
        raise _api_error(response, f"the response must be a map; got {type(data).__name__}")
    return data


def parse_task(response: Response) -> dict[str, Any]:
    """A payload that must be a task."""
    task = parse_map(response)
    if not isinstance(task.get("id"), str):
        raise _api_error(response, "the response is not a task: it has no id")
    return in_our_numbers(task)


def parse_nothing(response: Response) -> None:
    """A response whose payload is ignored."""
    parse_data(response)


def error_of(response: Response, body: Any) -> APIError | RequirementsNotMetError:
    """The error in a response."""
    if response.status == 412 and isinstance(body, Mapping) and isinstance(body.get("errors"), list):
        return RequirementsNotMetError([_requirement(item) for item in body["errors"]], response.status)
    code, message = _code_and_message(body, _text(response))
    if location := response.headers.get("location"):
        message = f"{message or 'redirected'} (to {location}: is base_url right?)"
    return _api_error(response, message or "the server gives no reason", code, body)


def _api_error(response: Response, message: str, code: str | None = None, body: Any = None) -> APIError:
    request_id = body.get("request_id") if isinstance(body, Mapping) else None
    return APIError(
        status_code=response.status,
        message=message,
        response_body=_text(response),
        code=code,
        request_id=request_id if isinstance(request_id, str) else response.headers.get("x-request-id"),
        retry_after=retry_after_seconds(response.headers.get("retry-after")),
    )


def _code_and_message(body: Any, text: str) -> tuple[str | None, str]:
    """Code and message of an error body: Mien's, a problem document, or that of a proxy in front of the server."""
    if not isinstance(body, Mapping):
        plain = re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
        return None, " ".join(plain.split())[:LONGEST_MESSAGE]
    error = body.get("error")
    if isinstance(error, Mapping):
        code, message = error.get("code"), error.get("message") or json.dumps(dict(error))
    else:
        code = str(body.get("type") or "").rstrip("/").rpartition("/")[2] or None
        words = (error, body.get("detail"), body.get("title"), body.get("message"))
        message = next((word for word in words if word), json.dumps(dict(body)))
    return None if code is None else str(code), _sentence(message)[:LONGEST_MESSAGE]


def _sentence(message: Any) -> str:
    if isinstance(message, list):
        return "; ".join(_sentence(item) for item in message)
    if isinstance(message, Mapping):
        place = ".".join(str(part) for part in message.get("loc") or ())
        return f"{place}: {message.get('msg', dict(message))}"
    return str(message)


def _requirement(item: Any) -> RequirementError:
    fields = item if isinstance(item, Mapping) else {"message": str(item)}
    action = fields.get("action")
    return RequirementError(
        str(fields.get("type", "")),
        str(fields.get("key", "")),
        str(fields.get("message", "")),
        SetupAction(str(action.get("type", "")), action.get("provider"), action.get("scopes"))
        if isinstance(action, Mapping)
        else None,
    )


def _json(response: Response) -> Any:
    try:
        return json.loads(response.body)
    except ValueError:
        return None


def _text(response: Response) -> str:
    return response.body[: LONGEST_BODY * 4].decode("utf-8", "replace")[:LONGEST_BODY]


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """A Retry-After header, in seconds or as a date, as seconds from `now`; None if missing or invalid."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if then.tzinfo is None:
            then = then.replace(tzinfo=UTC)
        seconds = (then - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if isfinite(seconds) else None
