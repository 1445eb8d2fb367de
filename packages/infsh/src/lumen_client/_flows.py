"""The methods of both clients as flows: written once, run by either client."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inferencesh._calls import part
from inferencesh._flows import simple
from inferencesh._frames import Events
from inferencesh._messages import JSON, Call, Request, Response
from inferencesh._responses import parse_data, parse_map, raise_for_status
from inferencesh._retry import with_retries
from inferencesh._settings import Settings, checked_seconds
from inferencesh._steps import Connect, Disconnect, Emit, Receive, RunBlocking, Steps
from inferencesh.errors import ConfigurationError, InferenceConnectionError
from lumen_client._payload import Form, Payload, form_of
from lumen_client._result import ResponseInvalid, Result, event, whole_result

STREAM = "_stream"  # ends the name of a service whose results are streamed
UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request to a service, before its files are opened."""

    fields: Mapping[str, str]
    payload: Payload | Sequence[Payload]
    headers: Mapping[str, str]

    def request(self, settings: Settings, accept: str, form: Form) -> Request:
        headers = {**settings.headers, **self.headers, "Accept": accept, **form.headers}
        return Request("POST", settings.url("/v1/infer"), headers, form)


def question(
    service: str,
    payload: Payload | Sequence[Payload],
    *,
    stream: bool,
    task: str | None = None,
    mime: str | None = None,
    meta: Mapping[str, str | float] | None = None,
    correlation_id: str | None = None,
    deadline: float | None = None,
) -> Question:
    """Raises ValueError or TypeError, which name the wrong argument."""
    if not service:
        raise ValueError("service is empty: name one, such as 'face_detection'")
    name = service.strip().removesuffix(STREAM)
    fields = {"service": name + STREAM if stream else name}
    if meta:
        fields["metadata"] = json.dumps({key: _text(key, value) for key, value in meta.items()})
    optional = {"task": task, "payload_mime": mime, "correlation_id": correlation_id}
    fields |= {key: value for key, value in optional.items() if value}
    return Question(fields, payload, {} if deadline is None else {"X-Timeout-Ms": _milliseconds(deadline)})


def infer(settings: Settings, asked: Question) -> Steps[Result]:
    """Sends the payloads; returns the whole result."""
    form: Form = yield RunBlocking(lambda: form_of(asked.fields, asked.payload))
    try:
        call = Call(asked.request(settings, JSON, form), whole_result, safe=False)
        return (yield from simple(settings, call))
    finally:
        form.close()


def stream(settings: Settings, asked: Question) -> Steps[None]:
    """Sends the payloads and emits the events; the last is the whole result."""
    form: Form = yield RunBlocking(lambda: form_of(asked.fields, asked.payload))
    try:
        call = Call(asked.request(settings, "text/event-stream", form), raise_for_status, safe=False)
        yield from with_retries(call, settings.retries, settings.timeout, Connect)
    finally:
        form.close()
    frames = LumenEvents()
    while data := (yield Receive(settings.idle_timeout)):
        for frame in frames.feed(data):
            found = event(frame.value)
            if found.is_final:
                yield Disconnect()
            yield Emit(found)
            if found.is_final:
                return
    raise InferenceConnectionError("the server closed the stream before its final event")


def health(settings: Settings) -> Steps[dict[str, Any]]:
    """Whether the server accepts requests: `starting` is an answer here, not an error to be retried."""
    return simple(settings, Call(_get(settings, "/v1/health"), _parse_health))


def listing(settings: Settings, path: str, key: str | None = None) -> Steps[list[dict[str, Any]]]:
    """A route that returns a list, bare or under `key`."""

    def parse(response: Response) -> list[dict[str, Any]]:
        found = parse_data(response)
        if key is not None:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ResponseInvalid(f"{path} did not return a list of maps")
        return found

    return simple(settings, Call(_get(settings, path), parse))


def capabilities(settings: Settings, node: str) -> Steps[list[dict[str, Any]]]:
    return listing(settings, f"/v1/nodes/{part(node)}/capabilities")


def metrics(settings: Settings) -> Steps[dict[str, Any]]:
    return simple(settings, Call(_get(settings, "/v1/metrics"), parse_map))


class LumenEvents(Events):
    """Events in either framing: server-sent events, or bare JSON between blank lines, as original servers send them."""

    def _field(self, line: bytes) -> None:
        super()._field(b"data:" + line if line.startswith(b"{") else line)


def _parse_health(response: Response) -> dict[str, Any]:
    if response.status == UNAVAILABLE:
        try:
            data = json.loads(response.body)["data"]
            if "status" in data:
                return dict(data)
        except (ValueError, TypeError, KeyError):
            pass
    return parse_map(response)


def _get(settings: Settings, path: str) -> Request:
    return Request("GET", settings.url(path), {**settings.headers, "Accept": JSON})


def _text(key: str, value: Any) -> str:
    """Metadata are strings; numbers and booleans are written as in JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TypeError(f"meta[{key!r}] is a {type(value).__name__}; expected a string or a number")


def _milliseconds(deadline: float) -> str:
    if math.isinf(checked_seconds("deadline", deadline)):
        raise ConfigurationError("deadline is infinite; expected seconds, or None")
    return str(math.ceil(deadline * 1000))
