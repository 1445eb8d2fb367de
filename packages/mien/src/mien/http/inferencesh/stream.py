"""`GET /tasks/{id}/stream`: snapshots of a task as it changes, until it ends."""

import asyncio
import time
from collections import deque
from contextlib import suppress

import structlog

from mien.errors import MienError
from mien.http.context import context_of
from mien.http.inferencesh.context import RequestContext
from mien.http.inferencesh.dialect import Table
from mien.http.inferencesh.frames import FULL_LINES, Frame, frame_json, frames_of, ndjson, sse
from mien.http.inferencesh.rendering import ascii_json
from mien.http.media import EVENT_STREAM, NDJSON, NDJSON_TYPES, accepts
from mien.http.streaming import StreamedResponse
from mien.tasks.feed import Cursor, Update, Watch
from mien.tasks.records import LogLine

log = structlog.get_logger()
REPEAT_SECONDS = 15.0
MAX_URL_AGE = 600.0  # seconds: cached frames contain signed URLs, which expire


class TaskStream(StreamedResponse):
    """The stream of one task. Ends after the terminal frame, or when the server stops."""

    def __init__(self, ctx: RequestContext, watch: Watch, *, resumed: bool) -> None:
        lines = accepts(ctx.request.headers, *NDJSON_TYPES)
        kind = NDJSON if lines else EVENT_STREAM
        super().__init__(f"{kind}; charset=utf-8", {"Cache-Control": "no-cache, no-transform"})
        self._ctx, self._watch, self._resumed = ctx, watch, resumed
        self._encode = ndjson if lines else sse
        self._table: Table = ctx.dialect.of(watch.task)
        self._tail: deque[LogLine] = deque(maxlen=FULL_LINES)

    async def send_body(self) -> None:
        stopping = asyncio.create_task(self._ctx.parts.drain.stopping.wait())
        try:
            await self._send_frames(stopping)
        except MienError as error:
            log.warning("task stream failed", task=self._watch.task.id, code=error.code, error=error.message)
        finally:
            stopping.cancel()
        if not self.disconnected.done():
            with suppress(OSError):
                await self.write(b"", more=False)

    async def close(self) -> None:
        self._watch.close()

    async def _send_frames(self, stopping: "asyncio.Task[bool]") -> None:
        watch, first = self._watch, not self._resumed
        if self._resumed:
            await self._load_tail()
            if watch.task.revision <= watch.cursor.revision:
                await self._repeat()  # nothing is new, but every connection starts with a snapshot
        while not watch.over:
            before = watch.cursor
            waiting = asyncio.create_task(watch.next(None))
            try:
                await asyncio.wait(
                    {waiting, self.disconnected, stopping}, timeout=REPEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if self.disconnected.done():
                    return
                update = waiting.result() if waiting.done() else None
            finally:
                waiting.cancel()
            if update is not None:
                await self._send_update(update, before, first=first)
                first = False
            elif stopping.done():
                return
            elif not watch.over:
                await self._repeat()

    async def _send_update(self, update: Update, before: Cursor, *, first: bool) -> None:
        body = b""
        for frame in frames_of(update, before, first=first):
            self._tail.extend(frame.logs)
            body += self._encoded(frame)
        await self.write(body)

    async def _repeat(self) -> None:
        """Send the task as it is, with nothing new: clients and proxies close silent connections."""
        await self.write(self._encoded(Frame(self._watch.task, self._watch.cursor, whole=True)))

    async def _load_tail(self) -> None:
        known = self._watch.cursor.logs
        lines = await self._ctx.parts.store.logs(self._watch.task.id, max(0, known - FULL_LINES), FULL_LINES)
        self._tail.extend(line for line in lines if line.number <= known)

    def _encoded(self, frame: Frame) -> bytes:
        links, base, cursor = self._ctx.parts.links, self._ctx.base, str(frame.cursor)
        cache = context_of(self._ctx.request).task_frames
        oldest = self._tail[0].number if self._tail else 0
        key = (
            frame.task.id,
            frame.task.revision,
            frame.task.status,
            cursor,
            len(frame.events),
            len(frame.logs),
            frame.whole,
            self._table,
            base,
            oldest,
            int(time.time() / MAX_URL_AGE),
        )
        data = cache.get(key, lambda: ascii_json(frame_json(frame, self._tail, self._table, links, base)))
        return self._encode(data, cursor)
