"""Requests with random deadlines, most of which end in the middle of the work, in every encoding and framing."""

import base64
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import ormsgpack

SERVICES = ("face_recognition", "face_detection", "embedding", "classification")


def default_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(part) for part in text.split("\n\n") if part]


def sse_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n") if line.startswith("data: ")]


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]


FRAMINGS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "*/*": default_events,
    "text/event-stream": sse_events,
    "application/x-ndjson": json_lines,
}


def tried(client: httpx2.Client, images: Sequence[bytes], count: int, *, seed: int, most_ms: int) -> Counter[str]:
    """The outcomes of `count` requests: `ok`, an error code, or a sentence about what must not happen."""
    chance = random.Random(seed)
    return Counter(outcome for _ in range(count) for outcome in one(client, images, chance, most_ms))


def one(client: httpx2.Client, images: Sequence[bytes], chance: random.Random, most_ms: int) -> Iterator[str]:
    service = chance.choice(SERVICES)
    payloads = [chance.choice(images) for _ in range(chance.choice([1, 8, 24]))]
    timeout = str(chance.randint(1, most_ms))
    if chance.random() < 0.4:
        yield _whole(_sent(client, chance, service, payloads, timeout, "*/*"))
        return
    accept = chance.choice(list(FRAMINGS))
    response = _sent(client, chance, f"{service}_stream", payloads, timeout, accept)
    if response.status_code != 200:
        yield _whole(response)
        return
    events = FRAMINGS[accept](response.text)
    finals = [event for event in events if event["is_final"]]
    if len(finals) != 1 or not events[-1]["is_final"]:
        yield f"a stream with {len(finals)} final events of {len(events)}"
        return
    error = finals[0]["error"]
    yield "ok" if error is None else error["code"]


def _whole(response: httpx2.Response) -> str:
    if response.status_code == 200:
        return "ok"
    code: str = response.json()["error"]["code"]
    return code if response.status_code == 504 else f"status {response.status_code}: {code}"


def _sent(
    client: httpx2.Client, chance: random.Random, service: str, payloads: list[bytes], timeout: str, accept: str
) -> httpx2.Response:
    headers = {"Accept": accept}
    fields = {"service": service, "metadata": {"timeout_ms": timeout}}
    match chance.choice(["json", "msgpack", "form"]):
        case "json":
            coded = [base64.b64encode(payload).decode() for payload in payloads]
            return client.post("/v1/infer", json={**fields, "payload": coded}, headers=headers)
        case "msgpack":
            body = ormsgpack.packb({**fields, "payload": payloads})
            headers["Content-Type"] = "application/msgpack"
            return client.post("/v1/infer", content=body, headers=headers)
        case _:
            form = {"service": service, "metadata": json.dumps(fields["metadata"])}
            files = [("payload", (str(number), data)) for number, data in enumerate(payloads)]
            return client.post("/v1/infer", data=form, files=files, headers=headers)
