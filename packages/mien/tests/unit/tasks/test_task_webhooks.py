"""Webhooks: signed, tried again, across restarts, and never to places that callers must not reach."""

import asyncio
import base64
import hashlib
import hmac
from typing import Any

import orjson
import pytest

from mien.errors import SourceFailed
from mien.net.post import Poster
from mien.tasks.machine import Outcome
from mien.tasks.records import Submission, Task
from mien.tasks.status import Status
from mien.tasks.webhooks import WebhookSender, secret_of
from testing.waiting import eventually_async

KEY = b"k" * 32


def body_of(task: Task) -> bytes:
    return orjson.dumps({"type": "task.completed", "data": {"id": task.id, "output": task.output}})


class Receiver:
    """Answers with the given statuses, then 200."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.got: list[tuple[str, bytes, dict[str, str]]] = []

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        self.got.append((url, body, headers))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer


async def end(store: Any, webhook: str = "https://example.org/hook") -> Any:
    task, _ = await store.submit(Submission(app="a/b", webhook=webhook))
    attempt = await store.claim(task.id, "s", 2e9)
    return await store.finish(attempt, Outcome(status=Status.COMPLETED, output={"x": 1}))


async def test_the_end_of_a_task_is_told_once_and_signed(store: Any, clock: Any) -> None:
    receiver = Receiver()
    sender = WebhookSender(store, receiver.post, KEY, render=body_of, clock=clock)
    await sender.start()
    task = await end(store)

    async def settled() -> bool:
        return bool(receiver.got) and await store.next_webhook() is None

    await eventually_async(settled)
    await sender.close()
    ((url, body, headers),) = receiver.got
    assert url == "https://example.org/hook"
    message = orjson.loads(body)
    assert (message["type"], message["data"]["id"], message["data"]["output"]) == ("task.completed", task.id, {"x": 1})
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret_of(KEY).removeprefix("whsec_"))
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


async def test_failures_are_tried_again_with_growing_pauses_across_restarts(store: Any, clock: Any) -> None:
    receiver = Receiver(500, SourceFailed("no answer"), 404)
    await end(store)
    pauses = []
    for number in range(1, 5):
        sender = WebhookSender(store, receiver.post, KEY, render=body_of, clock=clock)
        await sender.start()

        async def tried(number: int = number) -> bool:
            due = await store.next_webhook()
            return len(receiver.got) == number and (due is None or due > clock())

        await eventually_async(tried)
        await sender.close()
        due = await store.next_webhook()
        if due is not None:
            pauses.append(due - clock())
            clock.now = due
    assert due is None
    assert len(pauses) == 3
    assert pauses[0] < pauses[1] < pauses[2]
    assert len({headers["webhook-id"] for _, _, headers in receiver.got}) == 1


async def test_it_is_given_up_after_the_last_try_and_on_410(store: Any, clock: Any) -> None:
    for answers, tries in (((500, 500), 2), ((410,), 8)):
        receiver = Receiver(*answers)
        sender = WebhookSender(store, receiver.post, KEY, render=body_of, tries=tries, clock=clock)
        await sender.start()
        await end(store)
        for _ in answers:
            await asyncio.sleep(0.1)
            clock.now += 4000
            sender._wake.set()

        async def given_up() -> bool:
            return await store.next_webhook() is None

        await eventually_async(given_up)
        await sender.close()
        assert len(receiver.got) == len(answers)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://169.254.169.254/x", "http://[::1]/", "file:///etc/x"])
async def test_private_addresses_are_refused_and_given_up_at_once(store: Any, clock: Any, url: str) -> None:
    poster = Poster()
    sender = WebhookSender(store, poster.post, KEY, render=body_of, clock=clock)
    await end(store, url)
    await sender.start()

    async def given_up() -> bool:
        return await store.next_webhook() is None

    await eventually_async(given_up)
    await sender.close()
    await poster.aclose()


async def test_a_real_receiver_gets_the_body_and_redirects_are_not_followed() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(one.split(b":")[1]) for one in head.lower().split(b"\r\n") if b"content-length" in one)
        seen.append(head.split(b"\r\n")[0] + b" " + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    poster = Poster(allow_private=True, timeout=5)
    async with server:
        assert await poster.post(f"http://127.0.0.1:{port}/hook", b"{}", {"content-type": "application/json"}) == 302
        await poster.aclose()
    with pytest.raises(SourceFailed):
        await Poster(allow_private=True, timeout=2).post(f"http://127.0.0.1:{port}/hook", b"", {})
    assert seen == [b"POST /hook HTTP/1.1 {}"]
