"""The life cycle of one app instance: set up, run, cancel, unload. Independent of sockets."""

import asyncio
import contextlib
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from infsh._app import BaseApp
from infsh._caller import CallerRules, reading
from infsh._context import ActiveRun, Sink, running
from infsh._errors import AppInvalid, FileUnavailable
from infsh._file import File
from infsh._kernel import traces
from infsh._kernel.loader import Function, LoadedApp
from infsh._kernel.output import to_json
from infsh._kernel.thread import AppThreads, Call, Interrupted
from infsh._metadata import Metadata

_RETRY_SECONDS = 0.5
"""Seconds until a run that suppressed its cancellation is cancelled again."""

OnOutput = Callable[[Any], None]


class AppFailed(Exception):
    """The app failed. `kind` is as in `protocol.Failed` and `protocol.Fatal`."""

    def __init__(self, kind: str, error: str, traceback: str = "", code: str = "") -> None:
        super().__init__(error)
        self.kind = kind
        self.error = error
        self.traceback = traceback
        self.code = code


class RunCancelled(Exception):
    """The run has ended because it was cancelled."""


@dataclass(eq=False, slots=True)
class _Run:
    active: ActiveRun
    task: "asyncio.Task[Any] | None" = None
    started: bool = False
    """Whether the app has been notified."""
    call: Call | None = None
    """The plain function that is running in a thread."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class _Snapshots:
    """The partial outputs of one run, in any thread."""

    def __init__(self, function: Function, marker: str, on_output: OnOutput, log: Callable[[str], None]) -> None:
        self._function = function
        self._marker = marker
        self._on_output = on_output
        self._log = log
        self._any = False
        self._last: Any = None

    def add(self, item: Any) -> None:
        self._last = self.json(item)
        self._any = True
        self._on_output(self._last)

    def final(self) -> Any:
        if not self._any:
            raise AppInvalid(f"{self._function.name} ended without yielding an output")
        return self._last

    def drain(self, items: Iterator[Any]) -> None:
        for item in items:
            self.add(item)

    def json(self, value: Any) -> Any:
        missing: list[str] = []
        output = to_json(value, self._function, self._marker, missing)
        for path in missing:
            self._log(f"the output names the file {path}, which does not exist")
        return output


class AppRunner:
    """One instance of an app. All methods belong to one event loop."""

    def __init__(self, loaded: LoadedApp, sink: Sink) -> None:
        self.marker = secrets.token_hex(16)
        """The key of local files in outputs; see `protocol.Setup`."""
        self._loaded = loaded
        self._sink = sink
        self._app: Any = None
        self._metadata: dict[str, Any] = {}
        self._runs: dict[str, _Run] = {}
        self._slots = asyncio.Semaphore(loaded.concurrency)
        self._threads = AppThreads(loaded.concurrency)

    async def setup(self, setup: Any, metadata: dict[str, Any], *, rules: CallerRules | None = None) -> float:
        """Creates the instance and calls its `setup`; returns seconds. Raises AppFailed of kind `setup`.

        `rules`: for parameters from clients; None: they come from the user who runs the app locally.
        """
        started = time.perf_counter()
        self._metadata = metadata
        active = ActiveRun(None, self._sink)
        values = {"setup": None, "metadata": _metadata(metadata, active, "setup")}
        with running(active):
            try:
                with reading(rules):
                    values["setup"] = self._loaded.setup_value(setup)
                self._app = self._loaded.app_class()
                method = getattr(self._app, "setup", None)
                if method is not None:
                    await self._call(method, tuple(values[name] for name in self._loaded.setup_arguments))
            except AppInvalid as error:
                raise AppFailed("setup", str(error)) from error
            except (Exception, SystemExit) as error:
                raise self._failed("setup", error) from error
        return time.perf_counter() - started

    async def run(
        self,
        run_id: str,
        value: Any,
        on_output: OnOutput,
        *,
        function: str | None = None,
        metadata: dict[str, Any] | None = None,
        rules: CallerRules | None = None,
    ) -> Any:
        """Calls a function and returns its output as JSON values; partial ones go to `on_output`, in any thread.

        `rules`: as for `setup`. Waits for a free slot. Raises AppFailed or RunCancelled.
        """
        if self._app is None:
            raise AppFailed("worker", "the app is not set up")
        if run_id in self._runs:
            raise AppFailed("worker", f"run {run_id} is running already")
        run = _Run(ActiveRun(run_id, self._sink))
        self._runs[run_id] = run
        try:
            run.task = asyncio.create_task(self._in_slot(run, value, on_output, function, metadata or {}, rules))
            output = await run.task
        except (asyncio.CancelledError, Interrupted, AppFailed) as error:
            if run.active.cancelled.is_set():
                raise RunCancelled from error
            if isinstance(error, AppFailed):
                raise
            raise AppFailed("app", "the app cancelled its own run") from error
        finally:
            del self._runs[run_id]
            run.ended.set()
        if run.active.cancelled.is_set():
            raise RunCancelled
        return output

    async def cancel(self, run_id: str, grace: float) -> None:
        """Cancels a run, first cooperatively, then by force; returns when it has ended or after `grace` seconds."""
        run = self._runs.get(run_id)
        if run is None or run.active.cancelled.is_set():
            return
        run.active.cancelled.set()
        end = time.monotonic() + grace
        if run.started and self._has_on_cancel():
            asking = asyncio.create_task(self._ask(run.active))
            await _within(run.ended, grace / 2)
            asking.cancel()
        elif run.call is not None:
            await _within(run.ended, grace / 2)
        while not run.ended.is_set():
            if run.call is not None:
                run.call.interrupt()
            elif run.task is not None:
                run.task.cancel()
            remaining = end - time.monotonic()
            await _within(run.ended, min(_RETRY_SECONDS, max(0.0, remaining)))
            if remaining <= 0:
                return

    async def unload(self) -> None:
        """Ends all runs and calls `unload`. Raises AppFailed of kind `unload`."""
        await asyncio.gather(*(self.cancel(run_id, 1.0) for run_id in list(self._runs)))
        app, self._app = self._app, None
        if app is None or not hasattr(app, "unload"):
            return
        with running(ActiveRun(None, self._sink)):
            try:
                await self._call(app.unload, ())
            except (Exception, SystemExit) as error:
                raise self._failed("unload", error) from error

    # --- one run

    async def _in_slot(
        self,
        run: _Run,
        value: Any,
        on_output: OnOutput,
        name: str | None,
        metadata: dict[str, Any],
        rules: CallerRules | None,
    ) -> Any:
        async with self._slots:
            with running(run.active), self._errors():  # the app's own validators may also raise anything
                function = self._function(name)
                argument = await self._input(function, value, rules)
                given = _metadata({**self._metadata, **metadata}, run.active, "input")
                arguments = (argument, given) if function.takes_metadata else (argument,)
                snapshots = _Snapshots(function, self.marker, on_output, run.active.log)
                run.started = True
                return await self._output(run, getattr(self._app, function.name), arguments, snapshots)

    async def _output(
        self, run: _Run, method: Callable[..., Any], arguments: tuple[Any, ...], snapshots: _Snapshots
    ) -> Any:
        if inspect.isasyncgenfunction(method):
            result = method(*arguments)
        else:
            result = await self._call(method, arguments, run, snapshots)
        if result is _DRAINED:
            return snapshots.final()
        if isinstance(result, AsyncIterator):
            async for item in result:
                snapshots.add(item)
            return snapshots.final()
        return snapshots.json(result)

    def _function(self, name: str | None) -> Function:
        wanted = name or self._loaded.default_function
        function = self._loaded.functions.get(wanted)
        if function is None:
            known = ", ".join(self._loaded.functions)
            raise AppFailed("function", f"the app has no function {wanted!r}: it has {known}")
        return function

    async def _input(self, function: Function, value: Any, rules: CallerRules | None) -> Any:
        if function.input_type is None:
            return value
        try:
            with reading(rules):
                argument = function.input_type.model_validate({} if value is None else value)
        except ValidationError as error:
            raise AppFailed("input", traces.invalid("input", error)) from error
        if not getattr(self._loaded.app_class, "lazy_files", False):
            await _ensure_all([(place, file) for place, file in _files(argument) if not file.is_local])
        return argument

    async def _call(
        self,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
        run: _Run | None = None,
        snapshots: _Snapshots | None = None,
    ) -> Any:
        """The result of a coroutine function, or of a plain one in a thread; generators are drained there."""
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)

        def work() -> Any:
            result = method(*arguments)
            if snapshots is not None and isinstance(result, Iterator):
                snapshots.drain(result)
                return _DRAINED
            return result

        call = self._threads.submit(work)
        if run is not None:
            run.call = call
        result = await asyncio.wrap_future(call.future)
        if run is not None:
            run.call = None
        return await result if inspect.isawaitable(result) else result

    # --- cancelling

    def _has_on_cancel(self) -> bool:
        method = getattr(type(self._app), "on_cancel", None)
        return method is not None and method is not BaseApp.on_cancel

    async def _ask(self, active: ActiveRun) -> None:
        method = self._app.on_cancel
        with running(active):
            try:
                if inspect.iscoroutinefunction(method):
                    await method()
                else:
                    await asyncio.to_thread(method)
            except Exception as error:  # noqa: BLE001  # the app's; its run is cancelled all the same
                active.log(f"on_cancel failed: {traces.sentence(error, self._loaded.folder)}")

    # --- errors

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except AppFailed:
            raise
        except AppInvalid as error:
            raise AppFailed("output", str(error)) from error
        except MemoryError as error:
            raise self._failed("out_of_memory", error) from error
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise self._failed("app", error) from error

    def _failed(self, kind: str, error: BaseException) -> AppFailed:
        return AppFailed(kind, traces.sentence(error, self._loaded.folder), traces.frames(error, self._loaded.folder))


_DRAINED = object()


def _metadata(values: dict[str, Any], active: ActiveRun, kind: str) -> Metadata:
    try:
        return Metadata(**values).attached(active)
    except ValidationError as error:  # part of it comes from the client that submitted the task
        raise AppFailed(kind, traces.invalid("metadata", error)) from error


async def _within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def _ensure_all(files: list[tuple[str, File]]) -> None:
    """Fetches them at once; the first that fails ends the others."""
    fetching = [asyncio.create_task(_ensure(place, file)) for place, file in files]
    try:
        await asyncio.gather(*fetching)
    finally:
        for task in fetching:
            task.cancel()


async def _ensure(place: str, file: File) -> None:
    try:
        await file.ensure()
    except FileUnavailable as error:
        raise AppFailed("input", f"the file of `{place}` is not available: {error}", code=error.code) from error


def _files(value: Any, place: str = "") -> Iterator[tuple[str, File]]:
    """Every File in a model, at any depth, with its place: `images.0`, as in errors of validation."""
    if isinstance(value, File):
        yield place, value
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, BaseModel):
        items = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple, set)):
        items = enumerate(value)
    for name, item in items:
        yield from _files(item, f"{place}.{name}" if place else str(name))
