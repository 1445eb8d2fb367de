"""The engine in this process: each item runs in a thread, isolated from the others, and is reported when done."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, TypeAlias

import structlog

from mien.engine.admission import Admission
from mien.engine.cancellation import CancelScope
from mien.engine.engine import SCOPE_ENDED, Done, Event, Failed, Handlers, Operation, Outcome, Partial, Report, V, Work
from mien.engine.sources import Item, Source, SourceReader, is_image
from mien.engine.threads import ThreadPool
from mien.errors import BodyTooLarge, InternalError, MienError
from mien.metrics import Metrics

log = structlog.get_logger()

_Events: TypeAlias = "asyncio.Queue[Event[Any] | None]"
"""None: the scope was cancelled."""


class ThreadEngine:
    """Implements Engine on one thread pool."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        reader: SourceReader,
        threads: ThreadPool,
        admission: Admission,
        metrics: Metrics,
        parallel: int,
        max_items: int,
    ) -> None:
        """`parallel`: items of one request that run concurrently, so that no request starves others.

        `max_items`: items in one request.
        """
        self._handlers = handlers
        self._reader = reader
        self._threads = threads
        self._admission = admission
        self._metrics = metrics
        self._parallel = parallel
        self._max_items = max_items

    async def run(
        self,
        operation: Operation[V],
        sources: Sequence[Source],
        scope: CancelScope,
        *,
        partials: bool = False,
        noun: str = "image",
    ) -> AsyncGenerator[Event[V], None]:
        """See Engine.run."""
        if len(sources) > self._max_items:
            raise BodyTooLarge(f"{len(sources)} {noun}s in one request; this server takes at most {self._max_items}")
        handler = self._handlers[type(operation)]
        await handler.prepare(operation, sources)
        events: _Events = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def post(event: Event[V] | None) -> None:
            # A thread may still report after the request, or even the loop, has ended.
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        def wake() -> None:
            post(None)

        slots = asyncio.Semaphore(self._parallel)
        with handler.begin(operation, sources) as work, self._admission.work(len(sources)) as finished:

            async def one(index: int, source: Source) -> None:
                def report(value: V, part: int, parts: int) -> None:
                    post(Partial(index, value, part, parts))

                async with slots:
                    outcome = await self._isolated(
                        index, source, work, operation, scope, report if partials else None, noun
                    )
                finished()
                # After all parts: the thread posted those to the loop before it returned.
                events.put_nowait(outcome)

            scope.subscribe(wake)
            tasks = [asyncio.create_task(one(index, source)) for index, source in enumerate(sources)]
            try:
                left = len(tasks)
                while left:
                    event = await _next(events, scope)
                    if isinstance(event, Failed) and isinstance(event.error, SCOPE_ENDED):
                        raise event.error
                    left -= not isinstance(event, Partial)
                    yield event
            finally:
                scope.unsubscribe(wake)
                if not all(task.done() for task in tasks):
                    # Threads cannot be stopped, but they check the scope at their next model run.
                    scope.cancel()
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def _isolated(
        self,
        index: int,
        source: Source,
        work: Work,
        operation: Operation[V],
        scope: CancelScope,
        report: Report | None,
        noun: str,
    ) -> Outcome[V]:
        """The outcome of one item; never raises an error of the item."""
        try:
            outcome: Outcome[V] = await self._one(index, source, work, operation, scope, report)
        except MienError as error:
            # Without its frames, which would keep the image alive until the garbage collector runs.
            outcome = Failed(index, error.without_frames())
            if isinstance(error, SCOPE_ENDED):
                return outcome
            if error.is_fault:
                log.error("item failed", code=error.code, exc_info=error)
        except Exception as error:
            log.error("item failed", exc_info=error)
            outcome = Failed(index, InternalError(f"the server failed on this {noun}; its log has the details"))
        if is_image(source):
            self._metrics.images.labels("failed" if isinstance(outcome, Failed) else "done").inc()
        return outcome

    async def _one(
        self, index: int, source: Source, work: Work, operation: Operation[V], scope: CancelScope, report: Report | None
    ) -> Done[V]:
        started = time.perf_counter()
        fetched = await self._reader.fetch(source, scope)
        fetch_seconds = time.perf_counter() - started

        def done() -> Done[V]:
            started = time.perf_counter()
            item: Item = self._reader.load(fetched)
            scope.check()  # decoding, which follows, cannot be stopped
            read_seconds = fetch_seconds + time.perf_counter() - started
            return Done(index, work(item, operation, scope, report), read_seconds)

        return await self._threads.run(scope, done)


async def _next(events: _Events, scope: CancelScope) -> Event[Any]:
    """The next event. Raises DeadlineExceeded or Cancelled as soon as the scope is over."""
    while True:
        if events.empty():
            try:
                async with asyncio.timeout(scope.remaining()):
                    event = await events.get()
            except TimeoutError:
                scope.expire()
                event = None
        else:
            event = events.get_nowait()
        if event is not None:
            return event
        scope.check()
