"""Posts ended tasks to their `webhook` URL: signed, retried with exponential backoff, across restarts.

Signatures are those of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

import structlog

from mien.backoff import Backoff
from mien.errors import MienError, NotFound, SourceFailed, SourceRefused
from mien.metrics import Metrics
from mien.tasks.machine import wall_clock
from mien.tasks.records import Task
from mien.tasks.store import Change, Delivery, TaskStore

log = structlog.get_logger()

SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's prefix, not a secret
_BACKOFF = Backoff(first=5.0, most=3600.0, factor=3.0, jitter=(0.8, 1.2))
_CONCURRENCY = 16
_LONGEST_SLEEP = 60.0


class Post(Protocol):
    """`mien.net.post.Poster.post`."""

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> int: ...


class WebhookSender:
    """Delivers at least once: receivers recognise repeats by `webhook-id`, which is the same for every try."""

    def __init__(
        self,
        store: TaskStore,
        post: Post,
        key: bytes,
        *,
        render: Callable[[Task], bytes],
        tries: int = 8,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        """`render` makes the request body for a task."""
        self._store = store
        self._post = post
        self._key = key
        self._tries = tries
        self._render = render
        self._metrics = metrics
        self._clock = clock
        self._wake = asyncio.Event()
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        store.listen(self._changed)

    async def start(self) -> None:
        """Deliver what is due, deliveries that an earlier server left included."""
        self._loop = asyncio.create_task(self._deliver())

    async def close(self) -> None:
        """Stop; deliveries in flight are tried again after the next start."""
        running = [*self._in_flight.values(), *([self._loop] if self._loop else [])]
        for task in running:
            task.cancel()
        for task in running:
            with suppress(asyncio.CancelledError):
                await task
        self._loop = None

    def _changed(self, change: Change) -> None:
        if change.task.terminal and change.task.webhook is not None:
            self._wake.set()

    async def _deliver(self) -> None:
        while True:
            self._wake.clear()
            try:
                sleep = await self._begin_due()
            except MienError as error:
                log.error("webhooks cannot be read", error=error.message)
                sleep = 5.0
            with suppress(TimeoutError):
                async with asyncio.timeout(sleep):
                    await self._wake.wait()

    async def _begin_due(self) -> float:
        """Start the deliveries that are due. Returns the seconds until there may be more."""
        for delivery in await self._store.due_webhooks(self._clock(), 2 * _CONCURRENCY):
            if len(self._in_flight) >= _CONCURRENCY:
                return _LONGEST_SLEEP  # the first delivery to end wakes the loop
            if delivery.task_id not in self._in_flight:
                task = asyncio.create_task(self._try(delivery))
                self._in_flight[delivery.task_id] = task
                task.add_done_callback(partial(self._ended, delivery.task_id))
        if self._in_flight:
            return 1.0
        next_at = await self._store.next_webhook()
        return _LONGEST_SLEEP if next_at is None else min(_LONGEST_SLEEP, max(0.0, next_at - self._clock()))

    def _ended(self, task_id: str, _task: asyncio.Task[None]) -> None:
        del self._in_flight[task_id]
        self._wake.set()

    async def _try(self, delivery: Delivery) -> None:
        try:
            task = await self._store.get(delivery.task_id)
            failure, permanent = await self._send(delivery, task)
            await self._record(delivery, failure, permanent)
        except NotFound:
            return  # deleted meanwhile, and the delivery with it
        except MienError as error:
            log.error("the outcome of a webhook could not be kept; it is sent again", error=error.message)
            await asyncio.sleep(5.0)

    async def _send(self, delivery: Delivery, task: Task) -> tuple[str | None, bool]:
        """The failure, None for success, and whether it is permanent."""
        body = self._render(task)
        headers = signed_headers(self._key, f"{task.id}.{int(task.status)}", body, self._clock())
        try:
            status = await self._post(delivery.url, body, headers)
        except SourceRefused as error:
            return error.message, True
        except SourceFailed as error:
            return error.message, False
        return (None, False) if 200 <= status < 300 else (f"answered HTTP {status}", status == 410)

    async def _record(self, delivery: Delivery, failure: str | None, permanent: bool) -> None:
        now = self._clock()
        last = permanent or delivery.tries + 1 >= self._tries
        pause = _BACKOFF.pause(delivery.tries)
        await self._store.webhook_tried(
            delivery.task_id, at=now, error=failure, next_at=None if failure is None or last else now + pause
        )
        outcome = "delivered" if failure is None else "given_up" if last else "failed"
        if failure is not None:
            log.warning("a webhook was not delivered", task=delivery.task_id, outcome=outcome, error=failure)
        if self._metrics is not None:
            self._metrics.webhooks.labels(outcome).inc()


def signed_headers(key: bytes, message_id: str, body: bytes, now: float) -> dict[str, str]:
    """The signed headers of one try."""
    timestamp = str(int(now))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def secret_of(key: bytes) -> str:
    """The key in the text form of Standard Webhooks, as receivers' libraries take it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()
