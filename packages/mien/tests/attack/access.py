"""Rows 1 and 2: what web pages of other origins have done, and which files callers get."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from packages.mien.tests.acceptance.tasks.conftest import pack
from packages.mien.tests.attack.stage import Stage, Trial
from testing.raw_http import answer_of, raw_connection

EVIL = "https://evil.example"
FOREIGN = (
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": ""},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
)
KINDS = (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x/y")
TASK = b'{"app": "mien/faces", "input": {"image": "data:,x"}}'
SHOWN_TO_ALL = {"/livez", "/readyz", "/health", "/v1/health"}
HOSTS = (
    "127.0.0.1", "2130706433", "0.0.0.0", "localhost", "[::1]", "127.1", "0x7f000001", "017700000001",  # noqa: S104
    "[::ffff:127.0.0.1]",
)  # fmt: skip
"""Names of this machine."""
READER = """
from pathlib import Path
from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File

class AppSetup(BaseAppSetup):
    file: File | None = None

class AppInput(BaseAppInput):
    file: File | None = None
    files: list[File] = []

class AppOutput(BaseAppOutput):
    text: str = ""
    file: File | None = None

class App(BaseApp):
    async def setup(self, config: AppSetup) -> None:
        self.given = [config.file] if config.file else []

    async def run(self, given: AppInput) -> AppOutput:
        files = [*self.given, *given.files, *([given.file] if given.file else [])]
        return AppOutput(text="".join(Path(file.path).read_text(errors="replace") for file in files))
"""
ECHO = """
from typing import Any
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    a: Any = None

class AppOutput(BaseAppOutput):
    a: Any = None

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(a=given.a)
"""


def web_pages(stage: Stage, trial: Trial) -> None:
    """Every operation of the document, as a page of another origin can ask for it."""
    server, marker = stage.open, stage.folder / "the-app-of-the-page-ran"
    app = pack(
        {
            "inf.yml": "name: page\nnamespace: evil\n",
            "inference.py": f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n{ECHO}",
        }
    )
    bodies = {"/apps": app, "/extract": b'{"images": {"data": ["QQ=="]}}', "/files": b'{"files": [{"filename": "x"}]}'}
    before = _everything(server.client)
    with stage.watched(trial, server):
        every_operation(trial, server.client, FOREIGN, KINDS, bodies)
        for target in ("//run", "/run/", "/compat/latest/run", "/compat/0.5/apps?name=evil/page", "/RUN", "/%72un"):
            content = app if "apps" in target else TASK
            for headers in FOREIGN:
                url = httpx2.URL(f"{server.url}{target}")
                answer = server.client.post(url, content=content, headers=headers)
                trial.expect(answer.status_code in (400, 403, 404, 405), f"{target} {headers}: {answer}")
        for headers in FOREIGN[:6]:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            with raw_connection(server) as connection:
                connection.sendall(
                    f"GET /v1/nodes/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{lines}\r\n".encode()
                )
                trial.expect(answer_of(connection)[0] in (400, 403), f"WebSocket with {headers}")
    trial.expect(not marker.exists(), "the module of an app of another origin ran")
    trial.expect(_everything(server.client) == before, "apps, tasks, files or sessions of another origin")


def every_operation(
    trial: Trial,
    client: httpx2.Client,
    pages: Sequence[Mapping[str, str]],
    kinds: Sequence[str | None],
    bodies: Mapping[str, bytes],
) -> None:
    """Ask for each operation of the document with the headers of each page, and bodies of these types."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        target = _filled(path) + ("?name=evil/page" if path == "/apps" else "")
        for method in (*methods, "head", "options", "propfind"):
            refused = (400, 403, 405) if method in ("options", "propfind") else (400, 403)
            content = None if method in ("get", "head") else bodies.get(path, TASK)
            for page in pages if path not in SHOWN_TO_ALL else ():
                for kind in kinds if method in ("post", "put", "delete") else (None,):
                    given = {**page, **({} if kind is None else {"Content-Type": kind})}
                    answer = client.request(method.upper(), target, content=content, headers=given)
                    trial.expect(answer.status_code in refused, f"{method} {target} {given}: {answer}")


def _filled(path: str) -> str:
    for name, value in {"{reference}": "mien/faces", "{node_id}": "local", "{name}": "a.txt"}.items():
        path = path.replace(name, value)
    return path.replace("{task_id}", "a" * 26).replace("{file_id}", "a" * 26).replace("{session_id}", "a" * 26)


def _everything(client: httpx2.Client) -> list[Any]:
    return [client.get(f"/{kind}").json() for kind in ("apps", "tasks", "files", "sessions")]


@contextmanager
def _canary() -> Iterator[tuple[int, list[str]]]:
    """A server of this machine that nobody may be made to ask: its port, and who asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret of this machine")

        do_POST = do_HEAD = do_GET  # noqa: N815  the parent's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


def _packed(name: str, code: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inf.yml", f"name: {name}\nnamespace: test\n")
        archive.writestr("inference.py", code)
    return packed.getvalue()


def files_of_the_server(stage: Stage, trial: Trial) -> None:
    """A key with the scope `infer` and two honest apps: one that reads its files, one that gives back its input."""
    keyed = stage.keyed
    server, client = keyed.server, keyed.server.client
    for name, code in {"reader": READER, "echo": ECHO}.items():
        client.post("/apps", content=_packed(name, code), headers=keyed.admin, timeout=120).raise_for_status()
    data: Path = server.data_dir
    secret = data / "secrets" / "attacked.key"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("hidden-content-of-the-server")
    words = ("hidden-content-of-the-server", "root:x:0", "secret of this machine", "caller")
    paths = [secret, Path("/etc/passwd"), data / "keys.json", Path("../../keys.json"), Path("/proc/self/environ")]

    def run(app: str, **body: Any) -> None:
        answer = client.post("/run?wait=true", json={"app": app, **body}, headers=keyed.infer, timeout=120)
        shown = answer.text
        if answer.status_code == 200:
            task = answer.json()["data"]
            given = json.dumps({"input": body.get("input"), "setup": body.get("setup")})
            shown = json.dumps(task.get("output") or "") + json.dumps(task.get("logs") or "")
            if app == "test/reader":  # where a form has two sources, the harmless one may be what is read
                harmless = task["status"] == 9 and task["output"]["text"] in ("x", "")
                trial.expect(task["status"] == 10 or harmless, f"{given}: {shown}")
            files = client.get(f"/tasks/{task['id']}/files", headers=keyed.infer).text
            trial.expect("attacked" not in files and "passwd" not in files, f"{app} {given}: {files}")
        else:
            trial.answered(answer)
        trial.expect(not any(word in shown for word in words if word not in json.dumps(body)), f"{body}: {shown}")

    with _canary() as (port, asked), stage.watched(trial, server, keyed.infer["X-API-Key"]):
        texts = [f"{start}{path}" for path in paths for start in ("", "file://", "file:", "FILE://localhost")]
        texts += [f"http://{host}:{port}/x" for host in HOSTS] + [f"http://user@127.0.0.1:{port}/x#@example.com"]
        texts += ["mien-file://../../keys.json", "/files/../keys.json", f"{server.url}/files/../../keys.json", "\0", ""]
        for text in texts:
            forms = (text, {"path": text}, {"$file": {"path": text}}, {"path": text, "uri": "data:,x"})
            for form in forms:
                run("test/reader", input={"file": form})
            run("test/reader", input={"files": [text]})
            run("test/reader", input={}, setup={"file": text})
        for path in paths:
            marker = {"$file": {"path": str(path), "filename": "a"}}
            for form in (marker, {"a": [marker]}, {"path": str(path)}, {"$file": str(path)}, {**marker, "token": "x"}):
                run("test/echo", input={"a": form})
        for path in paths[:3]:
            body = {"images": {"urls": [str(path), f"file://{path}", f"http://127.0.0.1:{port}/x"]}}
            trial.expect(
                not any(word in client.post("/extract", json=body, headers=keyed.infer).text for word in words), body
            )
        trial.expect(not asked, f"asked a server of this machine: {asked[:5]}")


ROWS = {1: web_pages, 2: files_of_the_server}
