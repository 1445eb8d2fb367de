"""Both clients behind one interface, and a server that does to its answers what networks and servers do."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference


class Blocking:
    """An AsyncInference whose methods block, so that one test serves both clients."""

    def __init__(self, **settings: Any) -> None:
        self._runner = asyncio.Runner()
        self.client = AsyncInference(**settings)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.client, name)
        if not callable(attribute):
            return attribute if isinstance(attribute, str) else Namespace(self, attribute)
        return lambda *args, **more: self.wait(attribute(*args, **more))

    def wait(self, result: Any) -> Any:
        async def awaited() -> Any:
            return await result

        found = self._runner.run(awaited()) if asyncio.iscoroutine(result) else result
        return BlockingStream(self, found) if hasattr(found, "__aiter__") else found

    def close(self) -> None:
        self.wait(self.client.close())

    def shut(self) -> None:
        self.close()
        self._runner.close()


class Namespace:
    def __init__(self, client: Blocking, real: Any) -> None:
        self._client, self._real = client, real

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: self._client.wait(getattr(self._real, name)(*args, **more))


class BlockingStream:
    def __init__(self, client: Blocking, stream: Any) -> None:
        self._client, self._stream = client, stream

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        try:
            return self._client.wait(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.wait(self._stream.close())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@pytest.fixture(params=["sync", "async"])
def client_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of one of the two kinds and closes them; a test that uses it runs once for each kind."""
    made: list[Any] = []

    def make(**settings: Any) -> Any:
        made.append((Inference if request.param == "sync" else Blocking)(**settings))
        return made[-1]

    yield make
    for client in made:
        client.close() if isinstance(client, Inference) else client.shut()


# --- the server


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Fault:
    """What happens to one answer."""

    after: int | None = None
    """Bytes of the answer, head included, that are sent before; None: all of them."""
    how: str = "close"
    """`close`, `reset`, or `silence`: nothing more comes, and the connection stays."""
    drip: float = 0.0
    """Seconds between single bytes."""
    status: int | None = None
    """An error of this status in place of the answer."""
    headers: dict[str, str] = field(default_factory=dict)
    lose: bool = False
    """The request is worked on, but nothing is answered."""


class Server:
    """A task platform of a few lines. `faults` are used up in order, one for each request that `hits` names."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.hits: Callable[[Seen], bool] = lambda seen: seen.path.endswith("/stream")
        self.events: list[tuple[str | None, dict[str, Any]]] = []
        self.resumes = True
        """Whether Last-Event-ID is obeyed; otherwise everything comes again."""
        self.most_events = 1 << 30
        """Of one stream."""
        self.tail: bytes = b""
        """Sent behind the events of each stream."""
        self.media_type = "text/event-stream"
        self.tasks: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.replies: dict[str, Any] = {}
        self.busy = self.most_busy = 0
        self.put_delay = 0.0
        self.keep_content = True
        self._lock = threading.Lock()
        self._quit = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(0.01)
        self._threads: list[threading.Thread] = []
        self._count = 0
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def of(self, method: str, path: str) -> list[Seen]:
        """The requests to this route that came."""
        return [seen for seen in self.seen if (seen.method, seen.path.partition("?")[0]) == (method, path)]

    def close(self) -> None:
        self._quit.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._quit.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._count += 1
                self._start(self._serve, connection, self._count)
                self._threads = [thread for thread in self._threads if thread.is_alive()]

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(0.01)
        with connection, contextlib.suppress(OSError, EOFError):
            reader = Reader(connection, self._quit)
            while self._once(connection, reader, number):
                pass

    def _once(self, connection: socket.socket, reader: "Reader", number: int) -> bool:
        head = reader.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            body = reader.exactly(int(headers.get("content-length", 0)), keep=self.keep_content or method != "PUT")
            seen = Seen(method, path, headers, body, number)
            with self._lock:
                self.seen.append(seen)
                fault = self.faults.pop(0) if self.faults and self.hits(seen) else Fault()
            if method == "PUT":
                time.sleep(self.put_delay)
            status, kind, data = fault.status, "application/json", b'{"error": {"code": "made", "message": "made up"}}'
            if status is None:
                status, kind, data = self._answer(seen)
            answer = self._encoded(status, kind, data, fault.headers)
        finally:
            with self._lock:
                self.busy -= 1
        return self._send(connection, b"" if fault.lose else answer, fault)

    def _send(self, connection: socket.socket, answer: bytes, fault: Fault) -> bool:
        part = answer if fault.after is None else answer[: fault.after]
        for start in range(0, len(part), 1 if fault.drip else max(1, len(part))):
            connection.sendall(part[start : start + 1] if fault.drip else part)
            time.sleep(fault.drip)
        if fault.after is None and not fault.lose:
            return not self._quit.is_set()
        if fault.how == "silence":
            self._quit.wait(20)
        if fault.how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _encoded(self, status: int, kind: str, data: bytes, headers: dict[str, str]) -> bytes:
        chunked = kind != "application/json"
        sent = {"Content-Type": kind, "X-Request-Id": "r1", **headers}
        sent |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(data))}
        head = f"HTTP/1.1 {status} Made\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items()) + "\r\n"
        if chunked:
            pieces = [data[start : start + 64] for start in range(0, len(data), 64)]
            data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return head.encode() + data

    def _answer(self, seen: Seen) -> tuple[int, str, bytes]:
        path = seen.path.partition("?")[0]
        if path in self.replies:
            return 200, "application/json", json.dumps(self.replies[path]).encode()
        if path.endswith("/stream"):
            return 200, self.media_type, self.stream(seen.headers.get("last-event-id"))
        data = self._data(seen, path)
        return 200, "application/json", json.dumps({"success": True, "status": 200, "data": data}).encode()

    def _data(self, seen: Seen, path: str) -> Any:
        if path == "/run":
            key = seen.headers["idempotency-key"]
            with self._lock:
                if key not in self.tasks:
                    self.runs.append(json.loads(seen.body))
                    self.tasks[key] = {"id": f"t{len(self.runs)}", "status": 1, "input": self.runs[-1].get("input")}
            return self.tasks[key]
        if path == "/files":
            return [self._record(file) for file in json.loads(seen.body)["files"]]
        if seen.method == "PUT":
            self.files[path] = seen.body
            return {"stored": int(seen.headers["content-length"])}
        return {"id": path.split("/")[2], "status": 9, "output": "whole"}

    def _record(self, file: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            number = len(self.files) + 1
            self.files[f"/put/{number}"] = b""
        return {**file, "uri": f"https://files.example/{number}", "upload_url": f"/put/{number}", "id": str(number)}

    def stream(self, last: str | None) -> bytes:
        """The body of a stream's answer."""
        events = self.events
        known = [number for number, (name, _) in enumerate(events) if name == last]
        if last is not None and self.resumes and known:
            events = events[known[0] + 1 :]
        events = events[: self.most_events]
        if "event-stream" not in self.media_type:
            return b"".join(json.dumps(value).encode() + b"\n" for _, value in events) + self.tail
        return (
            b"".join(
                (f"id: {name}\n" if name is not None else "").encode()
                + b"data: "
                + json.dumps(value).encode()
                + b"\n\n"
                for name, value in events
            )
            + self.tail
        )


class Reader:
    """Requests from a connection."""

    def __init__(self, connection: socket.socket, quit_: threading.Event) -> None:
        self._connection, self._quit, self._rest = connection, quit_, b""

    def _more(self) -> bytes:
        while not self._quit.is_set():
            with contextlib.suppress(TimeoutError):
                data = self._connection.recv(1 << 18)
                if not data:
                    raise EOFError
                return data
        raise EOFError

    def until(self, end: bytes) -> bytes:
        while end not in self._rest:
            self._rest += self._more()
        found, _, self._rest = self._rest.partition(end)
        return found

    def exactly(self, size: int, *, keep: bool) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            part = self._more()
            have += len(part)
            parts.append(part if keep else b"")
        if not keep:
            self._rest = b""
            return b""
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]


@pytest.fixture
def server() -> Iterator[Server]:
    """A task platform that faults can be given to."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def fault() -> type[Fault]:
    """What faults are made of."""
    return Fault


@pytest.fixture
def client(client_factory: Callable[..., Any], server: Server) -> Any:
    """A client of the server."""
    return client_factory(api_key="key", base_url=server.url)
