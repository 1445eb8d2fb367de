"""The changes of a task for its watchers: every event and log line once, and the newest snapshot."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

import msgspec

from mien.errors import RequestError
from mien.tasks.records import Event, LogLine, Task
from mien.tasks.store import Change, TaskStore

_TAIL_LINES = 200
"""Log lines kept in memory per watched task; a watcher that is further behind reads from the store."""


class Cursor(msgspec.Struct, frozen=True):
    """How far a watcher has come. Its text is the `id` of an event stream, for `Last-Event-ID`."""

    revision: int = 0
    events: int = 0
    logs: int = 0

    def __str__(self) -> str:
        return f"{self.revision}.{self.events}.{self.logs}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor whose `str` this is. Raises RequestError for any other text."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isdecimal() and part.isascii() and len(part) < 16 for part in parts):
            raise RequestError("invalid stream cursor")
        return cls(*map(int, parts))


class Update(msgspec.Struct, frozen=True):
    """The task as it is now, and what is new since the previous update."""

    task: Task
    events: tuple[Event, ...]
    logs: tuple[LogLine, ...]
    cursor: Cursor
    """Resuming after it continues exactly after this update."""


class _Topic:
    """One watched task: its newest snapshot and last log lines, shared by all its watchers."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.tail: deque[LogLine] = deque(maxlen=_TAIL_LINES)
        self.deleted = False
        self.watches: set[Watch] = set()
        self.loading = asyncio.Lock()

    def apply(self, change: Change) -> None:
        self.deleted = self.deleted or change.deleted
        self.tail.extend(change.logs)
        if self.task is None or change.task.revision > self.task.revision:
            self.task = change.task
        for watch in self.watches:
            watch.wake()


class Feed:
    """Passes changes of tasks on to their watchers. Memory is bounded by the number of watched tasks: a slow watcher
    has only its cursor, and gets the newest snapshot when it asks again."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._topics: dict[str, _Topic] = {}
        store.listen(self._publish)

    @property
    def watchers(self) -> int:
        return sum(len(topic.watches) for topic in self._topics.values())

    async def watch(self, task_id: str, after: Cursor | str | None = None, *, owner: str | None = None) -> "Watch":
        """A watch of the task from `after` on; None: from its beginning. Close it, or use it as a context manager.

        Raises NotFound, also for tasks of others than `owner` if it is given, and RequestError for a cursor that is not
        one of this task's.
        """
        cursor = Cursor.parse(after) if isinstance(after, str) else after or Cursor()
        if owner is not None:
            # From the store even if the task is being watched: a faster answer would tell that there is such a task.
            await self._store.get(task_id, owner)
        topic = self._topics.setdefault(task_id, _Topic())
        watch = Watch(self, self._store, task_id, topic, cursor)
        topic.watches.add(watch)
        try:
            task = await self._load(task_id, topic)
            if (cursor.revision, cursor.events, cursor.logs) != (0, 0, 0) and (
                cursor.revision > task.revision or cursor.events > len(task.events) or cursor.logs > task.log_count
            ):
                raise RequestError("the cursor is ahead of the task; it belongs to another task")
        except BaseException:
            watch.close()
            raise
        return watch

    async def _load(self, task_id: str, topic: _Topic) -> Task:
        async with topic.loading:
            if topic.task is None:
                topic.apply(Change(await self._store.get(task_id)))
        assert topic.task is not None  # noqa: S101 - just taken
        return topic.task

    def _publish(self, change: Change) -> None:
        if (topic := self._topics.get(change.task.id)) is not None:
            topic.apply(change)

    def _leave(self, task_id: str, watch: "Watch") -> None:
        topic = self._topics.get(task_id)
        if topic is not None:
            topic.watches.discard(watch)
            if not topic.watches:
                del self._topics[task_id]


class Watch:
    """One watcher's position in the stream of one task. Ends after the update with the terminal status, or when the
    task is deleted."""

    def __init__(self, feed: Feed, store: TaskStore, task_id: str, topic: _Topic, cursor: Cursor) -> None:
        self._feed = feed
        self._store = store
        self._task_id = task_id
        self._topic = topic
        self._changed = asyncio.Event()
        self.cursor = cursor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        while True:
            update = await self.next(None)
            if update is not None:
                return update
            if self.over:
                raise StopAsyncIteration

    @property
    def task(self) -> Task:
        """The newest snapshot, to be repeated as a keep-alive on an idle connection."""
        assert self._topic.task is not None  # noqa: S101 - loaded before the watch was handed out
        return self._topic.task

    @property
    def over(self) -> bool:
        """Whether there will be no further update."""
        return self._topic.deleted or (self.task.terminal and not self._behind(self.task))

    async def next(self, timeout: float | None) -> Update | None:  # noqa: ASYNC109  a timeout must not lose an update
        """The next update; None when the watch is over or nothing changed for `timeout` seconds."""
        while not self.over:
            self._changed.clear()
            if self._behind(task := self.task):
                return await self._update(task)
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                return None
        return None

    def close(self) -> None:
        """Stop watching."""
        self._feed._leave(self._task_id, self)

    def wake(self) -> None:
        self._changed.set()

    def _behind(self, task: Task) -> bool:
        return task.revision > self.cursor.revision

    async def _update(self, task: Task) -> Update:
        logs = await self._logs(task)
        cursor = Cursor(task.revision, len(task.events), task.log_count)
        update = Update(task, task.events[self.cursor.events :], logs, cursor)
        self.cursor = cursor
        return update

    async def _logs(self, task: Task) -> tuple[LogLine, ...]:
        """The lines after the cursor up to `task.log_count`."""
        after, upto = self.cursor.logs, task.log_count
        if after >= upto:
            return ()
        tail = self._topic.tail
        if tail and tail[0].number <= after + 1:
            return tuple(line for line in tail if after < line.number <= upto)
        lines: list[LogLine] = []
        while after < upto and (more := await self._store.logs(task.id, after)):
            lines += [line for line in more if line.number <= upto]
            after = more[-1].number
        return tuple(lines)
