"""HTTP client of `/v1/infer` and the routes around it, for commands that talk to a running server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2

from mien.errors import DeadlineExceeded, MienError, NodeFailed, RequestError, Unavailable, class_of_code

CONNECT_SECONDS = 5.0
RESPONSE_SECONDS = 300.0


class InferClient:
    """A client of one server. Raises MienError with the server's code and message, or Unavailable."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx2.Timeout(RESPONSE_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)

    def get(self, path: str) -> Any:
        """The `data` of a GET route's response."""
        with self._reachable():
            response = self._http.get(path)
        return _data(response)

    def infer(self, fields: Mapping[str, str], payloads: Sequence[bytes]) -> dict[str, Any]:
        """The whole result, decoded under `result_json` if it is JSON. `fields`: service, task, metadata, ..."""
        with self._reachable():
            response = self._http.post("/v1/infer?decode=1", data=dict(fields), files=_files(payloads))
        data = _data(response)
        if not isinstance(data, dict):
            raise NodeFailed(f"{self.url} returned an invalid result")
        return data

    def events(self, fields: Mapping[str, str], payloads: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """The events of a stream as they arrive; an event with an `error` raises it."""
        with (
            self._reachable(),
            self._http.stream(
                "POST",
                "/v1/infer?decode=1",
                data=dict(fields),
                files=_files(payloads),
                headers={"Accept": "text/event-stream"},
            ) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                response.read()
                _data(response)
            events = EventParser()
            for chunk in response.iter_bytes():
                for event in events.feed(chunk):
                    if event.get("error"):
                        raise error_of(event["error"])
                    yield event
                    if event.get("is_final"):
                        return
        raise NodeFailed(f"{self.url} ended the stream without a final event")

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise Unavailable(f"cannot connect to {self.url}: is `mien serve` running there?") from None
        except httpx2.TimeoutException:
            raise DeadlineExceeded(f"{self.url} did not respond within {RESPONSE_SECONDS:g} s") from None
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise Unavailable(f"{self.url}: {error}") from None


class EventParser:
    """Parses a stream incrementally, in any of the server's framings. No I/O."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The events that `data` completes. Every framing keeps an event's JSON on one line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            text = line.removeprefix(b"data:").strip()
            if text.startswith(b"{"):
                found.append(json.loads(text))
        return found


def error_of(error: Mapping[str, Any]) -> MienError:
    """The exception for a server's `{"code", "message"}`."""
    kind = class_of_code(str(error.get("code"))) or RequestError
    return kind(str(error.get("message")))


def _files(payloads: Sequence[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("payload", (f"payload-{number}", payload)) for number, payload in enumerate(payloads)]


def _data(response: httpx2.Response) -> Any:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise NodeFailed(f"{response.request.url} returned {response.status_code} without JSON: is that a Mien server?")
    if not body.get("success"):
        given = body.get("error")
        raise error_of(given if isinstance(given, dict) else {"message": body.get("message", response.reason_phrase)})
    return body.get("data")
