"""The asyncio client of the task API."""
# ruff: noqa: ASYNC109 - `timeout` bounds the waiting for a task, as in the client that blocks

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Unpack, overload

from inferencesh import _calls, _flows
from inferencesh._async_flow import AsyncConnected, AsyncStream, FlowRunner
from inferencesh._async_io import Connections
from inferencesh._base import BaseClient
from inferencesh._calls import Page
from inferencesh._content import Uploadable
from inferencesh._follow import Follower
from inferencesh._messages import Call
from inferencesh._options import RunOptions, UploadFileOptions
from inferencesh._progress import Progress, reporter
from inferencesh._status import Task

T = TypeVar("T")


class AsyncTaskStream(AsyncStream[Task]):
    """The states of a task as they change. Iterate over it, ideally inside `async with`, which closes the connection.

    A failed task raises TaskFailed and a cancelled one TaskCancelled, after its last state. Closing it does not cancel
    the task.
    """

    def __init__(self, connections: Connections, follower: Follower, progress: Progress | None = None) -> None:
        super().__init__(FlowRunner(connections, follower.steps()), progress)
        self._follower = follower

    @property
    def task_id(self) -> str:
        return self._follower.task_id

    @property
    def task(self) -> Task:
        """The latest known state of the task."""
        return dict(self._follower.task)

    @property
    def result(self) -> Task | None:
        """The completed task; None until then, or if it does not complete."""
        return self._follower.result

    @property
    def error(self) -> Exception | None:
        """The error that ended the stream or the task, if any."""
        return self._follower.error


class AsyncInference(AsyncConnected, BaseClient):
    """Client of a Mien server, for asyncio: one client serves any number of asyncio tasks of one event loop.

    Use `async with`, or `await close()` at the end; connections are reused. In another loop it reconnects.
    """

    @property
    def tasks(self) -> "AsyncTasks":
        """Everything about tasks."""
        return AsyncTasks(self)

    @property
    def files(self) -> "AsyncFiles":
        """Everything about files."""
        return AsyncFiles(self)

    @property
    def apps(self) -> "AsyncApps":
        """The apps that can be run."""
        return AsyncApps(self)

    @property
    def sessions(self) -> "AsyncSessions":
        """State that is kept in one worker."""
        return AsyncSessions(self)

    @overload
    async def run(
        self, params: Mapping[str, Any], wait: bool = True, stream: Literal[False] = False, **more: Unpack[RunOptions]
    ) -> Task: ...

    @overload
    async def run(
        self, params: Mapping[str, Any], wait: bool = True, *, stream: Literal[True], **more: Unpack[RunOptions]
    ) -> AsyncTaskStream: ...

    @overload
    async def run(
        self, params: Mapping[str, Any], wait: bool = True, stream: bool = False, **more: Unpack[RunOptions]
    ) -> Task | AsyncTaskStream: ...

    async def run(
        self,
        params: Mapping[str, Any],
        wait: bool = True,
        stream: bool = False,
        *,
        timeout: float | None = None,
        progress: bool | Progress = False,
        idempotency_key: str | None = None,
        upload_paths: bool | None = None,
        upload_base64: bool | None = None,
        auto_reconnect: bool = True,
        max_reconnects: int = 8,
        reconnect_delay_ms: float = 250,
        idle_timeout: float | None = None,
    ) -> Task | AsyncTaskStream:
        """Run an app: upload the files of `params['input']`, submit the task and wait until it ends.

        Returns the completed task; with `wait=False` the accepted task; with `stream=True` a stream of its states.
        `progress=True` shows them on stderr; a function is called with each. `timeout` limits the waiting, in seconds.
        Calls with the same `idempotency_key` and params return the same task; by default each call has its own key. The
        other arguments are those of `stream_task` and of the client. Raises TaskFailed, TaskCancelled, APIError,
        RequirementsNotMetError, UploadError, StreamError, InferenceTimeout, InferenceConnectionError.
        """
        options = _flows.stream_options(
            self._settings, auto_reconnect, max_reconnects, reconnect_delay_ms, idle_timeout, timeout
        )
        task = await self._run(
            _flows.submit(
                self._settings,
                params,
                idempotency_key=idempotency_key,
                upload_paths=upload_paths,
                upload_base64=upload_base64,
            )
        )
        if not wait and not stream:
            return task
        follower = _flows.follower(self._settings, task, options)
        if stream:
            return AsyncTaskStream(self._connections, follower, reporter(progress))
        return await self._run(follower.steps(), reporter(progress))

    async def get_task(self, task_id: str) -> Task:
        """A task with all its fields."""
        return await self._call(_calls.get_task(self._settings, task_id))

    async def cancel(self, task_id: str) -> None:
        """Cancel a task: immediately if it is queued, within its grace period if it is running."""
        await self._call(_calls.cancel(self._settings, task_id))

    async def wait_for_completion(
        self,
        task_id: str,
        timeout: float | None = None,
        *,
        progress: bool | Progress = False,
        auto_reconnect: bool = True,
        max_reconnects: int = 8,
        reconnect_delay_ms: float = 250,
        idle_timeout: float | None = None,
    ) -> Task:
        """Wait for a task and return it. Raises InferenceTimeout after `timeout` seconds, otherwise like `run`."""
        options = _flows.stream_options(
            self._settings, auto_reconnect, max_reconnects, reconnect_delay_ms, idle_timeout, timeout
        )
        return await self._run(_flows.follower(self._settings, task_id, options).steps(), reporter(progress))

    def stream_task(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        progress: bool | Progress = False,
        auto_reconnect: bool = True,
        max_reconnects: int = 8,
        reconnect_delay_ms: float = 250,
        idle_timeout: float | None = None,
    ) -> AsyncTaskStream:
        """A task's states, starting with the current one.

        A broken connection is resumed without losing or repeating states: up to `max_reconnects` times in a row without
        anything new, with exponential backoff from `reconnect_delay_ms`. `idle_timeout`: seconds without even a
        heartbeat after which a connection counts as broken. `timeout`: seconds in total.
        """
        options = _flows.stream_options(
            self._settings, auto_reconnect, max_reconnects, reconnect_delay_ms, idle_timeout, timeout
        )
        return AsyncTaskStream(self._connections, _flows.follower(self._settings, task_id, options), reporter(progress))

    async def upload_file(self, data: Uploadable, options: UploadFileOptions | None = None) -> dict[str, Any]:
        """Upload a path, bytes, a `data:` URI, a `File` or an open file; returns the server's record with its `uri`."""
        return await self._run(_flows.upload(self._settings, data, options))


class _Namespace:
    def __init__(self, client: AsyncInference) -> None:
        self._client = client

    async def _call(self, call: Call[T]) -> T:
        return await self._client._call(call)


class AsyncTasks(_Namespace):
    """`client.tasks`: the client's own methods under short names, and further methods for tasks."""

    def __init__(self, client: AsyncInference) -> None:
        super().__init__(client)
        self.run = client.run
        self.get = client.get_task
        self.cancel = client.cancel
        self.wait = client.wait_for_completion
        self.stream = client.stream_task

    async def status(self, task_id: str) -> dict[str, Any]:
        """A task's status, without most other fields."""
        return await self._call(_calls.task_part(self._client._settings, task_id, "status"))

    async def logs(self, task_id: str) -> list[dict[str, Any]]:
        """A task's complete log."""
        return await self._client._run(_flows.whole_log(self._client._settings, task_id))

    async def delete(self, task_id: str) -> None:
        """Delete an ended task and its files."""
        await self._call(_calls.delete(self._client._settings, "tasks", task_id))

    async def list(self, **filters: Any) -> Page:
        """Tasks, newest first. `filters` are passed to the server: `status`, `app`, `limit`, `cursor` and more."""
        return await self._call(_calls.list_tasks(self._client._settings, filters))


class AsyncFiles(_Namespace):
    """`client.files`."""

    def __init__(self, client: AsyncInference) -> None:
        super().__init__(client)
        self.upload = client.upload_file

    async def get(self, file_id: str) -> dict[str, Any]:
        """A file's record."""
        return await self._call(_calls.record(self._client._settings, "files", file_id))

    async def delete(self, file_id: str) -> None:
        """Delete a file."""
        await self._call(_calls.delete(self._client._settings, "files", file_id))

    async def list(self, **filters: Any) -> Page:
        """Records of files, newest first; `cursor` pages."""
        return await self._call(_calls.records(self._client._settings, "files", filters))


class AsyncApps(_Namespace):
    """`client.apps`."""

    async def list(self) -> Page:
        """The apps that can be run."""
        return await self._call(_calls.records(self._client._settings, "apps"))

    async def get(self, reference: str) -> dict[str, Any]:
        """One app, `namespace/name[@version]`: its functions, schemas and versions."""
        return await self._call(_calls.app(self._client._settings, reference))


class AsyncSessions(_Namespace):
    """`client.sessions`: state kept in one worker. `run` creates one with `'session': 'new'` in its params."""

    async def list(self) -> Page:
        """All open sessions."""
        return await self._call(_calls.records(self._client._settings, "sessions"))

    async def get(self, session_id: str) -> dict[str, Any]:
        """One session."""
        return await self._call(_calls.record(self._client._settings, "sessions", session_id))

    async def keepalive(self, session_id: str) -> dict[str, Any]:
        """Restart its idle timeout."""
        return await self._call(_calls.keepalive(self._client._settings, session_id))

    async def end(self, session_id: str) -> None:
        """End it and free its worker."""
        await self._call(_calls.delete(self._client._settings, "sessions", session_id))
