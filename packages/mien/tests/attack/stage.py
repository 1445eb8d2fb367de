"""What every row of the attack uses: servers, something that watches them, and a count of what was tried."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

import httpx2

from mien.keys import FileKeyStore
from packages.mien.tests.acceptance.tasks.conftest import Api
from testing.ports import free_port

OBSERVER = Path(__file__).with_name("observer.py")
ALONE_SECONDS = 5.0
JSON = {"Content-Type": "application/json"}
LAG_METRIC = "mien_event_loop_lag_seconds"


@dataclass
class Figures:
    """What was seen of a server from outside, in MB and milliseconds."""

    grown_mb: float
    lag_ms: float
    p50_ms: float
    p99_ms: float
    asked: int
    refused: int


@dataclass
class Trial:
    """One row: what was tried, what did not hold, and what the server looked like meanwhile."""

    title: str
    tried: int = 0
    broken: list[str] = field(default_factory=list)
    sent_mb: float = 0.0
    alone: Figures | None = None
    during: list[Figures] = field(default_factory=list)
    loop_ms: float = nan
    """The largest lag that the server itself measured."""

    def expect(self, held: bool, what: object) -> None:
        """Count one try; `what` is told if it did not hold."""
        self.tried += 1
        if not held:
            self.broken.append(str(what)[:400])

    def answered(self, response: httpx2.Response, *statuses: int) -> None:
        """Count one try that must be answered with one of these, or with any client error if there are none."""
        held = response.status_code in statuses if statuses else 400 <= response.status_code < 500
        request = response.request
        said = f"{request.method} {request.url} {dict(request.headers).get('content-type', '')}"
        self.expect(held, f"{said[:160]}: {response.status_code} {response.text[:160]}")

    @property
    def grown_mb(self) -> float:
        return max((figures.grown_mb for figures in self.during), default=nan)

    @property
    def ratio(self) -> float:
        """The worst p99 of the honest client during the attack to the one alone."""
        return max((figures.p99_ms for figures in self.during), default=nan) / (
            self.alone.p99_ms if self.alone else nan
        )

    def line(self, number: int) -> str:
        """Of the table whose head is HEAD."""
        worst = max(self.during, key=lambda figures: figures.p99_ms, default=None)
        cells = [f"{number:>3} {self.title:<34}{self.tried:>7}  {'held' if not self.broken else 'BROKEN':<7}"]
        if self.alone and worst:
            lag = max(figures.lag_ms for figures in self.during)
            cells.append(f"{self.sent_mb:8.1f}{self.grown_mb:+9.0f}{self.loop_ms:9.0f}{lag:9.0f}")
            cells.append(f"{self.alone.p50_ms:8.0f}{self.alone.p99_ms:7.0f}{worst.p50_ms:8.0f}{worst.p99_ms:7.0f}")
            cells.append(f"{self.ratio:6.1f}x")
            cells.append(f"{sum(f.refused for f in self.during):>5}/{sum(f.asked for f in self.during)}")
        return "".join(cells)


HEAD = (
    f"{'row':<38}{'tried':>7}  {'':<7}{'sent MB':>8}{'RSS MB':>9}{'loop ms':>9}{'livez ms':>9}"
    f"{'alone p50':>10}{'p99':>5}{'then p50':>9}{'p99':>6}{'':>7} honest refused"
)


class Watch:
    """An observer of one server."""

    def __init__(self, server: Any, key: str, photo: Path) -> None:
        self._server, self._key = server, key
        self._process = subprocess.Popen(
            [sys.executable, str(OBSERVER), str(server.port), str(server.process.pid), key, str(photo)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.period()
        time.sleep(ALONE_SECONDS)
        self.alone = self.period()

    def period(self) -> Figures:
        """What was seen since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Figures(**json.loads(self._process.stdout.readline()))

    def lag_ms(self) -> float:
        """The largest lag of the event loop since the last call, as the server measured it."""
        headers = {"X-API-Key": self._key} if self._key else {}
        text = self._server.client.get("/metrics", headers=headers).text
        found = [line.split()[-1] for line in text.splitlines() if line.startswith(LAG_METRIC)]
        return float(found[0]) * 1e3 if found else nan

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class KeyedServer:
    server: Any
    infer: dict[str, str]
    """The header of a key that may infer."""
    admin: dict[str, str]
    """That of one that may also deploy."""


class Stage:
    """Starts servers, and has those that several rows attack."""

    def __init__(self, serve: Callable[..., Any], photo: bytes, light: dict[str, str], folder: Path) -> None:
        self.serve, self.photo, self.light, self.folder = serve, photo, light, folder
        self.grpc_port = free_port()
        self.pair: tuple[Any, Any] | None = None
        """A node, and a gateway in front of it, once a row has needed them."""
        self._photo = folder / "photo.jpg"
        self._photo.write_bytes(photo)
        self._open: Any = None
        self._keyed: KeyedServer | None = None
        self._watches: dict[int, Watch] = {}
        self._stack = ExitStack()

    @property
    def open(self) -> Any:
        """A server without keys, which is a node, too."""
        if self._open is None:
            options = {"grpc_host": "127.0.0.1", "grpc_port": self.grpc_port, "app_memory": 512 * 1024**2}
            self._open = self.serve(**options, **self.light)
        return self._open

    @property
    def api(self) -> Api:
        """Short ways to call the server without keys."""
        return Api(self.open.client)

    @property
    def keyed(self) -> KeyedServer:
        if self._keyed is None:
            data = self.folder / "keyed"
            store = FileKeyStore(data)
            infer, admin = store.create("caller", ["infer"])[1], store.create("root", ["admin", "infer"])[1]
            server = self.serve(data_dir=data, app_memory=512 * 1024**2, **self.light)
            self._keyed = KeyedServer(server, {"X-API-Key": infer}, {"X-API-Key": admin})
        return self._keyed

    @contextmanager
    def watched(self, trial: Trial, server: Any, key: str = "") -> Iterator[None]:
        """Measure what the server looks like meanwhile."""
        watch = self._watches.get(server.port)
        if watch is None:
            watch = self._watches[server.port] = Watch(server, key, self._photo)
            self._stack.callback(watch.close)
        trial.alone = watch.alone
        watch.lag_ms()
        watch.period()
        try:
            yield
        finally:
            trial.during.append(watch.period())
            lag = watch.lag_ms()
            trial.loop_ms = lag if isnan(trial.loop_ms) else max(trial.loop_ms, lag)

    def forget(self, server: Any) -> None:
        """Watch a server that will be stopped no longer."""
        watch = self._watches.pop(server.port, None)
        if watch is not None:
            watch.close()

    def close(self) -> None:
        self._stack.close()
