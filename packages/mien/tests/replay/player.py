"""Plays steps against one running server and returns what was answered, masked. Starts that server, too."""

import http.client
import json
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

from platformdirs import user_cache_path
from websockets.sync.client import connect

from .mask import Mask, joined_frames
from .steps import Command, Delivered, Http, Socket, Step

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "photos"
START_SECONDS = 120.0
ANSWER_SECONDS = 120.0
PIECE = 64 * 1024
COLUMNS = "100"
UNMASKED = ("_path", "_uri", "_cursor")
"""Ends of names whose values are masked by their form: signed URLs, and cursors."""
_PASSING = frozenset({"received", "queued", "scheduled", "preparing", "serving", "setting_up", "running", "uploading"})
_PLACEHOLDER = re.compile(r"\{\{([\w.]+)\}\}")


RunCommand: TypeAlias = Callable[[Sequence[str], Mapping[str, str]], dict[str, Any]]
"""Runs a command with these arguments and these additional variables."""


class Web:
    """A web server of this process: serves the photos, and keeps what is posted to it."""

    def __init__(self) -> None:
        self.posted: dict[str, tuple[list[tuple[str, str]], bytes]] = {}
        self.arrived = threading.Condition()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                photo = PHOTOS / Path(self.path).name
                found = photo.is_file()
                data = photo.read_bytes() if found else b"nothing here"
                self._answer(200 if found else 404, data, "image/jpeg" if found else "text/plain")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with web.arrived:
                    web.posted[self.path] = (list(self.headers.items()), body)
                    web.arrived.notify_all()
                self._answer(200, b"", "text/plain")

            def _answer(self, status: int, data: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Commands:
    """The process that runs `mien` commands, for all servers; see command_host.py."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, HERE / "command_host.py"],
            env=environment_of({}),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._one_at_a_time = threading.Lock()

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
        """Exit code, stdout and stderr of one command."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        asked = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        with self._one_at_a_time:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Player:
    """Plays steps in order against one server."""

    def __init__(self, port: int, web: Web, command: RunCommand, mask: Mask, known: Mapping[str, str]) -> None:
        """`known`: values of placeholders from the start."""
        self._port = port
        self._web = web
        self._command = command
        self._mask = mask
        self._connection: http.client.HTTPConnection | None = None
        self._known = {"server": f"http://127.0.0.1:{port}", "web": web.url}
        for name, value in known.items():
            self._know(name, value)

    def play(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """What each step was answered, under its name."""
        with ThreadPoolExecutor() as aside:
            answers = [(step, self._started(step, aside)) for step in steps]
        return [
            {"name": step.name, **answer()} for step, answer in answers if not isinstance(step, Http) or step.recorded
        ]

    def captured(self) -> dict[str, str]:
        """Values of placeholders, those of this run's addresses left out."""
        return {name: value for name, value in self._known.items() if "." in name and not name.endswith("_uri")}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _started(self, step: Step, aside: Executor) -> Callable[[], dict[str, Any]]:
        """The step's answer: now, or in the end where the server takes its time and all others need not wait."""
        if isinstance(step, Http) and step.stalls:
            return aside.submit(self._played, step).result
        answer = self._played(step)
        return lambda: answer

    def _played(self, step: Step) -> dict[str, Any]:
        if isinstance(step, Http):
            return self._asked(step)
        if isinstance(step, Command):
            return self._run(step)
        return self._delivered(step) if isinstance(step, Delivered) else self._message(step)

    def _asked(self, step: Http) -> dict[str, Any]:
        path = self._filled(step.path)
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            status, headers, body = self._stalled(step, path) if step.stalls else self._exchanged(step, path)
            if not step.until or _at(json.loads(body), step.until) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        self._capture(step, headers, body)
        if "/files/" in path and not body.startswith(b"{"):
            said = None  # a file's length itself is recorded; elsewhere it depends on what is masked
        else:
            said = _announced(headers) if step.method == "HEAD" else len(body)
        kind = next((value for name, value in headers if name.lower() == "content-type"), "")
        return {
            "sent": f"{step.method} {self._mask.text(path)}",
            "status": status,
            "headers": self._mask.headers(headers, said),
            "body": (
                joined_frames(self._mask, body, kind) if step.live and status == 200 else self._mask.body(body, kind)
            ),
        }

    def _exchanged(self, step: Http, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = self._connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        self._connection = connection
        headers = {name: self._filled(value) for name, value in step.headers.items()}
        body = None if step.body is None else self._filled_bytes(step.body)
        if step.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif body is not None or step.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(len(body or b""))
        connection.putrequest(step.method, path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        complete = _send(connection.sock, body or b"", chunked=step.chunked)
        answer = connection.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        if answer.will_close or not complete:
            self._drop()
        return found

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _stalled(self, step: Http, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        body = step.body or b""
        connection.putrequest(step.method, path)
        for name, value in {**step.headers, "Content-Length": str(len(body) + 1)}.items():
            connection.putheader(name, self._filled(value))
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        connection.close()
        return found

    def _run(self, step: Command) -> dict[str, Any]:
        arguments = [self._filled(argument) for argument in step.arguments]
        environment = {name: self._filled(value) for name, value in step.environment.items()}
        answer = self._command(arguments, environment)
        for name, pattern in step.capture.items():
            match = re.search(pattern, answer["stdout"] + answer["stderr"])
            assert match is not None, f"{step.name}: {pattern!r} is not in {answer}"
            self._know(name, match[1])
        shown = {key: [self._mask.line(line) for line in answer[key].split("\n")] for key in ("stdout", "stderr")}
        if step.unordered:
            shown["stderr"] = sorted((line for line in shown["stderr"] if line not in _PASSING), key=str)
        return {"sent": self._mask.text(" ".join(["mien", *arguments])), "exit": answer["exit"], **shown}

    def _delivered(self, step: Delivered) -> dict[str, Any]:
        with self._web.arrived:
            assert self._web.arrived.wait_for(lambda: step.path in self._web.posted, ANSWER_SECONDS), step.name
        headers, body = self._web.posted[step.path]
        kept = [pair for pair in headers if pair[0].lower() not in ("host", "accept-encoding")]
        return {
            "sent": f"POST <web>{step.path}",
            "headers": self._mask.headers(kept, len(body)),
            "body": self._mask.body(body, "application/json"),
        }

    def _message(self, step: Socket) -> dict[str, Any]:
        headers = {name: self._filled(value) for name, value in step.headers.items()}
        url = f"ws://127.0.0.1:{self._port}{step.path}"
        with connect(url, additional_headers=headers, proxy=None) as opened:
            message = opened.recv(ANSWER_SECONDS)
        return {"sent": f"WebSocket {step.path}", "body": self._mask.line(str(message))}

    def _capture(self, step: Http, headers: list[tuple[str, str]], body: bytes) -> None:
        for name, where in step.capture.items():
            if where.startswith("header "):
                found = next((value for key, value in headers if key.lower() == where[7:].lower()), None)
            else:
                found = _at(json.loads(body), where)
            assert isinstance(found, str), f"{step.name}: no {where} in {body[:2000]!r}"
            self._know(name, found.removeprefix(self._known["server"]) if name.endswith("_path") else found)

    def _know(self, name: str, value: str) -> None:
        self._known[name] = value
        if not name.endswith(UNMASKED):
            self._mask.captured[value] = name

    def _filled(self, text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: self._known[match[1]], text)

    def _filled_bytes(self, body: bytes) -> bytes:
        return body if b"{{" not in body else self._filled(body.decode("latin-1")).encode("latin-1")


def _announced(headers: list[tuple[str, str]]) -> int | None:
    return next((int(value) for name, value in headers if name.lower() == "content-length"), None)


def _send(connection: socket.socket, body: bytes, *, chunked: bool) -> bool:
    """Send the body until the server answers: it may refuse one before it has come to its end. Whether all was sent."""
    pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
    with suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            if select.select([connection], [], [], 0)[0]:
                return False
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        return True
    return False


def _at(value: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for part in path.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without MIEN_* variables but for the cache, with the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MIEN_", "PYTEST_"))}
    if "MIEN_CACHE_DIR" in os.environ:
        inherited["MIEN_CACHE_DIR"] = os.environ["MIEN_CACHE_DIR"]
    for name in ("FORCE_COLOR", "PYTHONPATH", "GITHUB_ACTIONS"):
        inherited.pop(name, None)
    return {
        **inherited,
        "NO_COLOR": "1",
        "COLUMNS": COLUMNS,
        "LINES": "40",
        "TERM": "dumb",
        "TZ": "UTC",
        "MIEN_LOG_FORMAT": "json",
        **{f"MIEN_{name.upper()}": value for name, value in settings.items()},
    }


class Running:
    """One server process, or none, with a web server of this process."""

    def __init__(
        self, python: Path, commands: Commands, folder: Path, settings: Mapping[str, str], *, server: bool
    ) -> None:
        """Starts them. `folder`: has the server's `data` already, or will."""
        self._stack = ExitStack()
        self._folder = folder
        self._data_dir = folder / "data"
        self._port = _free_port()
        self._log = folder / "server.log"
        shutil.copy(PHOTOS / "person_a_1.jpg", folder / "face.jpg")
        self._environment = environment_of({**settings, "port": str(self._port), "data_dir": str(self._data_dir)})
        self._commands = commands
        self._cache = self._environment.get("MIEN_CACHE_DIR") or str(user_cache_path("mien"))
        self._process = self._started(python) if server else None
        self._web = Web()
        self._stack.callback(self._web.close)

    def play(self, steps: Sequence[Step], known: Mapping[str, str]) -> list[dict[str, Any]]:
        """Play the steps, once the server is ready. `known`: values of placeholders from the start."""
        return self.played(steps, known)[0]

    def played(self, steps: Sequence[Step], known: Mapping[str, str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """As `play`, with the values of placeholders at the end."""
        fixed = {
            f"http://127.0.0.1:{self._port}": "server",
            self._web.url: "web",
            f"127.0.0.1:{self._port}": "host",
            str(self._port): "port",
            str(self._data_dir): "data",
            str(self._folder): "folder",
            self._cache: "cache",
            str(PHOTOS): "photos",
        }
        if self._process is not None:
            self._until_ready(self._process)
            document = json.loads(_answer_of(self._port, "/openapi.json", ANSWER_SECONDS))  # made when first asked for
            fixed[document["info"]["version"]] = "version"
        player = Player(self._port, self._web, self._run, Mask(fixed), known)
        try:
            return player.play(steps), player.captured()
        finally:
            player.close()

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
        own = {**self._environment, "MIEN_URL": f"http://127.0.0.1:{self._port}", **environment}
        return self._commands.run(arguments, own, self._folder)

    def _started(self, python: Path) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context(self._log.open("wb"))
        process = subprocess.Popen(
            [python, "-m", "mien", "serve"], env=self._environment, stdout=log, stderr=log, cwd=self._folder
        )
        self._stack.callback(_end, process)
        return process

    def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, f"the server ended:\n{self._log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{self._log.read_text()[-4000:]}"
            with suppress(OSError):
                if b"ready" in _answer_of(self._port, "/readyz"):
                    return
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answer_of(port: int, path: str, seconds: float = 5.0) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _free_port() -> int:
    """A port of five digits, so that tables are as wide in every run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def with_images(folder: Path) -> Path:
    """Put an images root into a server's folder: the photos under `people/`, and a link that leads out of it."""
    people = folder / "images" / "people"
    people.mkdir(parents=True)
    for photo in PHOTOS.glob("*.jpg"):
        shutil.copy(photo, people)
    shutil.copy(PHOTOS / "person_a_1.jpg", folder / "outside.jpg")
    (folder / "images" / "link.jpg").symlink_to(folder / "outside.jpg")
    return folder
