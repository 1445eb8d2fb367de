"""Models whose files may be missing: acquired and loaded in the background when first asked for."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from mien.errors import ModelError, ModelUnavailable
from mien.zoo.zoo import Zoo

log = structlog.get_logger()
T = TypeVar("T")

RETRY_AFTER = 5.0  # seconds: what clients are told while a model is being acquired
RETRY_FAILED = 30.0  # seconds between attempts, so that requests do not turn a dead network into a stream of downloads
MAX_WAIT = 2.0  # seconds that a request waits: enough to load a file that is here, or to find out that there is none

Build = Callable[[Mapping[str, Path]], T]


class OnDemand(Generic[T]):
    """Models that belong together, and what `build` makes of their files. Thread-safe; one attempt at a time, and one
    `load` or `unload`.

    Files that are on this machine are loaded at once, and what is wrong with them is raised. Missing ones are acquired
    when somebody asks, so that they never keep a server from starting.

    `unload` and `load` are for operators: what was unloaded stays so until it is loaded again. Requests that hold it
    finish with it; nothing is closed under them.
    """

    def __init__(
        self, purpose: str, names: Sequence[str], zoo: Zoo, build: Build[T], *, name: str | None = None
    ) -> None:
        """`purpose`: what needs these models, the beginning of the message for clients. `name`: of all of them
        together; None: the first one's. Raises ModelError.
        """
        self.names = tuple(names)
        self._name = name
        self._purpose = purpose
        self._zoo = zoo
        self._build = build
        self._lock = threading.Lock()
        # One element once it is here: T may be None or falsy. A tuple that is replaced as a whole, so that whoever
        # reads it without the lock sees either state.
        self._built: tuple[T, ...] = ()
        self._unloaded = False
        self._holders = 0
        self._changes = 0
        """Loads and unloads so far: an attempt in the background that began before the last one is void."""
        self._failure: ModelError | None = None
        self._failed_at = float("-inf")
        self._lacked_files = False
        self._attempt: Future[None] | None = None
        found = {name: zoo.find(name) for name in self.names}
        paths = {name: path for name, path in found.items() if path is not None}
        if len(paths) == len(found):
            self._built = (build(paths),)

    @property
    def name(self) -> str:
        """The name that results are attributed to."""
        return self._name or self.names[0]

    @property
    def is_here(self) -> bool:
        """Whether `get` returns at once."""
        return bool(self._built)

    @property
    def is_unloaded(self) -> bool:
        """Whether an operator unloaded it: requests do not bring it back."""
        return self._unloaded

    def get(self) -> T:
        """What was built. Never waits: if it is missing, starts a due attempt and raises ModelUnavailable."""
        built = self._built
        if not built:
            self._begin()
            raise self._absence()
        return built[0]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps what was built for as long as a request needs it, also if it is unloaded meanwhile.

        Raises ModelUnavailable if it was unloaded before.
        """
        with self._lock:
            if self._unloaded:
                raise self._absence()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                self._drop_unheld()

    def load(self) -> bool:
        """Load the files that are on this machine; whether that was needed. Blocks.

        Raises ModelUnavailable if one is not here, ModelError if it cannot be loaded; then nothing has changed.
        """
        if self._built and not self._unloaded:
            return False
        found = {name: self._zoo.find(name) for name in self.names}
        paths = {name: path for name, path in found.items() if path is not None}
        if absent := [name for name in found if name not in paths]:
            raise ModelUnavailable(
                f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not on this machine: "
                f"run `mien models pull {' '.join(absent)}`"
            )
        built = self._build(paths)
        with self._lock:
            self._built, self._unloaded, self._failure = (built,), False, None
            self._changes += 1
        return True

    def unload(self) -> bool:
        """Let go of what was built, as soon as no request holds it; whether that was a change. Refuses new requests."""
        with self._lock:
            was, self._unloaded = self._unloaded, True
            self._changes += 1
            self._drop_unheld()
        return not was

    def _drop_unheld(self) -> None:
        """Called with the lock held."""
        if self._unloaded and not self._holders:
            self._built = ()

    def wait(self) -> T:
        """What was built, once an attempt that runs or is due has ended: a download may take minutes. Blocks.

        Raises ModelUnavailable.
        """
        if not self._built and (attempt := self._begin()) is not None:
            attempt.result()
        return self.get()

    async def settle(self) -> None:
        """Start an attempt where one is due, and give it two seconds; `get` tells how it ended."""
        if not self._built and (attempt := self._begin()) is not None:
            await asyncio.wait([asyncio.wrap_future(attempt)], timeout=MAX_WAIT)

    def _begin(self) -> Future[None] | None:
        """The running attempt, started now if one is due."""
        with self._lock:
            if self._built or self._unloaded or self._attempt is not None:
                return self._attempt
            arrived = self._lacked_files and self._have_files()
            if time.monotonic() - self._failed_at < RETRY_FAILED and not arrived:
                return None
            if arrived:  # meanwhile, for example by `mien models pull`
                self._failure = None
            attempt: Future[None] = Future()
            self._attempt = attempt
            changes = self._changes
        # A daemon: a download that takes minutes must not keep a server from stopping.
        threading.Thread(target=self._try, args=(attempt, changes), name=f"acquire {self.name}", daemon=True).start()
        return attempt

    def _have_files(self) -> bool:
        try:
            return all(self._zoo.record(name) is not None for name in self.names)
        except ModelError:
            return False

    def _try(self, attempt: "Future[None]", changes: int) -> None:
        failure: ModelError | None = None
        fault: Exception | None = None
        try:
            built = self._build(self._zoo.ensure_all(self.names))
        except ModelError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, waiting requests must be answered and the next one may try again
            failure, fault = ModelError("it could not be loaded; the server's log has the details"), error
        with self._lock:
            if failure is None and self._changes == changes:
                self._built = (built,)
            self._failure, self._failed_at = failure, time.monotonic()
            self._lacked_files = failure is not None and not self._have_files()
            self._attempt = None
        attempt.set_result(None)  # before the log, which can take a second to render a traceback
        if failure is None:
            log.info("models loaded", models=self.names)
        else:
            log.warning(
                "models not available", models=self.names, code=failure.code, reason=failure.message, exc_info=fault
            )

    def _absence(self) -> ModelUnavailable:
        """Why it is missing, and what helps."""
        plural = len(self.names) > 1
        needs = f"{self._purpose} needs the model{'s' * plural} {' and '.join(self.names)}"
        if self._unloaded:
            them = "them" if plural else "it"
            return ModelUnavailable(
                f"{needs}, which {'were' if plural else 'was'} unloaded; "
                f"`mien models load {self.name}` loads {them} again"
            )
        failure = self._failure
        if failure is None:
            return ModelUnavailable(
                f"{needs}, which {'are' if plural else 'is'} being acquired; try again in {RETRY_AFTER:g} s",
                retry_after=RETRY_AFTER,
            )
        return ModelUnavailable(f"{needs}, which this server does not have: {failure.message}")
