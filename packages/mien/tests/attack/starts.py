"""Rows 11, 14, 15 and 19 to 21: environments, folders and states that a server, a command or a client finds."""

import http.client
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from packages.mien.tests.acceptance.tasks.conftest import KIT, Api
from packages.mien.tests.attack.stage import Stage, Trial
from packages.mien.tests.conftest import mien_environment
from testing.ports import free_port
from testing.waiting import eventually

CLIENTS = """
import sys
from ifr_clients import IFRClient, IFRError
from inferencesh import Inference, InferenceError
from infsh import FileUnavailable
url = sys.argv[1]
def by_ifr():
    with IFRClient(url, None, retries=0, timeout=10) as client:
        client.server_info(show=False)
def by_inferencesh():
    with Inference(api_key="k", base_url=url, retries=0, timeout=10) as client:
        client.tasks.list()
for ask in (by_ifr, by_inferencesh):
    try:
        ask()
        print("ok")
    except (IFRError, InferenceError, FileUnavailable) as error:
        print("error", type(error).__name__, error)
"""
COMMANDS = (("tasks", "list"), ("apps", "list"), ("nodes", "list"))
PROXY_NAMES = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY")
BAD_PROXIES = ("gopher://127.0.0.1:1", "http://[::1", "127.0.0.1:99999", "http://", "socks9://x")


def _run(
    trial: Trial, arguments: list[str], environment: dict[str, str], folder: Path
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    trial.expect(
        "Traceback" not in done.stdout + done.stderr, f"{arguments[-4:]}: {(done.stdout + done.stderr)[-300:]}"
    )
    return done


@contextmanager
def _proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that knows what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.requestline)
            self.send_response(502)
            self.end_headers()

        do_POST = do_CONNECT = do_HEAD = do_GET  # noqa: N815  the parent's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def proxy_variables(stage: Stage, trial: Trial) -> None:
    """Clients and commands of a server on this machine, and of one elsewhere, under variables that mislead."""
    server, folder = stage.open, stage.folder
    local = [f"http://{host}:{server.port}" for host in ("127.0.0.1", "localhost")]
    plain = {
        name: value for name, value in mien_environment(folder / "d", {}).items() if not name.lower().endswith("_proxy")
    }
    with _proxy() as (proxy, asked), stage.watched(trial, server):
        for variables in (
            dict.fromkeys(PROXY_NAMES, proxy),
            {**dict.fromkeys(PROXY_NAMES, proxy), "NO_PROXY": "example.org", "no_proxy": ""},
            {"SSL_CERT_FILE": str(folder / "missing.pem")},
            *({"http_proxy": bad, "all_proxy": bad} for bad in BAD_PROXIES),
        ):
            environment = {**plain, **variables}
            for url in local:
                done = _run(trial, ["-c", CLIENTS, url], environment, folder)
                trial.expect(
                    done.stdout.split() == ["ok", "ok"], f"clients, {variables}: {done.stdout} {done.stderr[-200:]}"
                )
            for command in COMMANDS:
                done = _run(trial, ["-m", "mien", *command, "--url", local[0]], environment, folder)
                trial.expect(done.returncode == 0, f"{command}, {variables}: {done.stderr[-200:]}")
        trial.expect(not asked, f"the proxy was asked for this machine: {asked[:3]}")
        for bad in BAD_PROXIES:
            done = _run(trial, ["-c", CLIENTS, "http://server.invalid:1"], {**plain, "http_proxy": bad}, folder)
            lines = done.stdout.splitlines()
            held = len(lines) == 2 and all(line.startswith("error") and "http_proxy" in line for line in lines)
            trial.expect(held, f"clients, http_proxy={bad}: {done.stdout} {done.stderr[-200:]}")


UMASK = "import os\nos.umask(0)\nimport mien.__main__\n"


def modes(stage: Stage, trial: Trial) -> None:
    """The data folder of a server whose umask is 0, after work: nobody else may read its state."""
    server = stage.serve(
        program=("-c", UMASK), data_dir=stage.folder / "modes", app_memory=512 * 1024**2, **stage.light
    )
    api = Api(server.client)
    with stage.watched(trial, server):
        api.deploy("kit", KIT)
        record = server.client.post("/files", files={"file": ("a.txt", b"words", "text/plain")}).json()["data"]
        api.ended(api.run("test/kit", {"do": "file", "file": record["uri"]})["id"])
        _require_private(trial, server.data_dir)
    server.stop()
    stage.forget(server)
    server.data_dir.chmod(0o755)
    for path in server.data_dir.glob("mien.db*"):
        path.chmod(0o644)
    again = stage.serve(program=("-c", UMASK), data_dir=server.data_dir, **stage.light)
    _require_private(trial, again.data_dir)
    again.stop()


def _require_private(trial: Trial, folder: Path) -> None:
    """Nothing below a folder that others may not enter can be reached by them; databases and keys say so themselves."""
    trial.expect(not stat.S_IMODE(folder.stat().st_mode) & 0o077, f"{folder}: {folder.stat().st_mode:o}")
    for path in (*folder.glob("mien.db*"), *folder.glob("*.json"), *folder.glob("secrets/*")):
        trial.expect(not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path}: {path.stat().st_mode:o}")


LATER = "import time\nreal = time.time\ntime.time = lambda: real() + 400 * 86400\nimport mien.__main__\n"


def damaged_state(stage: Stage, trial: Trial) -> None:
    """Key files that cannot be read, databases that were emptied, clocks that jump."""
    keyed = stage.keyed
    file = keyed.server.data_dir / "keys.json"
    good = file.read_bytes()
    with stage.watched(trial, keyed.server, keyed.infer["X-API-Key"]):
        for bad in (
            good[:-5],
            b"",
            b"{}",
            b"{}x",
            b"\0" * 100,
            b'{"keys": 5}',
            good.replace(b'"', b"", 1),
            b"\xff\xfe",
        ):
            file.write_bytes(bad)
            try:
                for headers in ({}, keyed.infer, keyed.admin):
                    for path in ("/info", "/tasks", "/apps", "/metrics"):
                        answer = keyed.server.client.get(path, headers=headers)
                        trial.expect(answer.status_code in (401, 500, 503), f"{path}, keys.json {bad[:20]!r}: {answer}")
                        trial.expect(str(keyed.server.data_dir) not in answer.text, f"{path}: {answer.text}")
                ready = keyed.server.client.get("/readyz")
                trial.expect(ready.status_code == 503, f"ready with keys.json {bad[:20]!r}: {ready.text}")
            finally:
                file.write_bytes(good)
            trial.answered(keyed.server.client.get("/info", headers=keyed.infer), 200)
    _emptied(stage, trial)


def _emptied(stage: Stage, trial: Trial) -> None:
    folder = stage.folder / "state"
    server = stage.serve(data_dir=folder, **stage.light)
    task = server.client.post("/run?wait=true", json={"app": "mien/faces", "input": {"image": "data:,x"}}).json()[
        "data"
    ]
    server.stop()
    later = stage.serve(program=("-c", LATER), data_dir=folder, **stage.light)
    time.sleep(12)  # the first removal of old tasks is 10 s after the start
    trial.answered(later.client.get(f"/tasks/{task['id']}"), 200)
    later.stop()
    for name, damage in {
        "emptied": lambda path: path.write_bytes(b""),
        "removed": lambda path: path.unlink(),
        "overwritten": lambda path: path.write_bytes(b"x" * 8192),
        "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    }.items():
        copy = stage.folder / f"state-{name}"
        subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
        for path in copy.glob("mien.db-*"):
            path.unlink()
        damage(copy / "mien.db")
        environment = mien_environment(copy, {**stage.light, "log_format": "console"})
        done = _until_it_ends(["-m", "mien", "serve", "--port", str(free_port())], environment)
        trial.expect(done is not None and done[0] == 1, f"a server with a database that was {name}: {done}")
        trial.expect(done is not None and "Traceback" not in done[1] and "mien.db" in done[1], f"{name}: {done}")


def _until_it_ends(arguments: list[str], environment: dict[str, str], seconds: float = 60) -> tuple[int, str] | None:
    """Exit status and output; None if it goes on."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode, (done.stdout + done.stderr)[-600:]


def fronts(stage: Stage, trial: Trial) -> None:
    """What load balancers assume, and what a client behind none of them may claim."""
    server = stage.open
    forged = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    with stage.watched(trial, server):
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            connection.request("GET", "/livez")
            connection.getresponse().read()
            time.sleep(61)
            first = connection.sock
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            trial.expect(answer.status == 200 and connection.sock is first, "a connection that was idle for a minute")
        for path in ("/", "/docs", "/redoc", "/openapi.json"):
            answer = server.client.get(path, headers=forged)
            said = answer.text + answer.headers.get("location", "")
            trial.expect("evil" not in said, f"{path} believes a stranger: {said[:200]}")
    trusting = stage.serve(trusted_proxies="127.0.0.1", data_dir=stage.folder / "trusting", **stage.light)
    for prefix in ("/mien", "/a/b"):
        headers = {"X-Forwarded-Prefix": prefix}
        answer = trusting.client.get("/", headers=headers)
        trial.expect(answer.headers["location"].startswith(prefix), f"behind {prefix}: {answer.headers['location']}")
        trial.expect(
            f"{prefix}/openapi.json" in trusting.client.get("/docs", headers=headers).text, f"docs behind {prefix}"
        )
    for prefix in (
        "//evil.example",
        "https://evil.example",
        "/a\\b",
        "/<script>",
        "/../..",
        "/%0d%0ax: y",
        '/"onload="x',
    ):
        answer = trusting.client.get("/", headers={"X-Forwarded-Prefix": prefix})
        location = answer.headers.get("location", "/")
        held = location.startswith("/") and not location.startswith(("//", "/\\"))
        trial.expect(held and answer.status_code < 500, f"prefix {prefix}: {answer.status_code} {location}")
        page = trusting.client.get("/docs", headers={"X-Forwarded-Prefix": prefix}).text
        trial.expect("<script>/" not in page and '"onload="x' not in page, f"docs with the prefix {prefix}")
    trusting.stop()
    _on_ipv6(stage, trial)


def _on_ipv6(stage: Stage, trial: Trial) -> None:
    server = stage.serve("--host", "::1", ready=False, data_dir=stage.folder / "six", **stage.light)

    def ready() -> bool:
        try:
            return httpx2.get(f"http://[::1]:{server.port}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    eventually(ready, 180)
    trial.expect(f"http://[::1]:{server.port}" in server.log, "the log has another address")
    server.stop()


MISTAKES = (
    ("recognizer", "sface", "MIEN_RECOGNISER"), ("max_body_size", "1", "MIEN_MAX_BODY_BYTES"),
    ("apikey", "x", "MIEN_API_KEY"), ("cors_origin", "*", "MIEN_CORS_ORIGINS"), ("qqqqqq", "1", "MIEN_QQQQQQ"),
    ("images_root", "/nonexistent", "images_root"),
    ("images_root", "/etc/passwd", "images_root"), ("tls_certificate", "/nonexistent", "tls_certificate"),
    ("public_url", "x", "public_url"), ("config", "/nonexistent.toml", "/nonexistent.toml"), ("port", "x", "MIEN_PORT"),
)  # fmt: skip


def mistakes(stage: Stage, trial: Trial) -> None:
    """Settings that mean nothing, or name what is not there: the start ends with their names."""
    folder = stage.folder / "mistakes"
    for name, value, said in MISTAKES:
        environment = mien_environment(folder, {"port": free_port(), **stage.light, name: value})
        done = _until_it_ends(["-m", "mien", "serve"], environment)
        held = done is not None and done[0] not in (0, None) and said.lower() in done[1].lower()
        trial.expect(held and done is not None and "Traceback" not in done[1], f"MIEN_{name.upper()}={value}: {done}")
    file = stage.folder / "mistaken.toml"
    for text in ("[listening]\nprot = 1\n", "[nonsense]\nx = 1\n", "x = ", "[listening]\nport = 'x'\n"):
        file.write_text(text)
        done = _until_it_ends(["-m", "mien", "config", "check"], mien_environment(folder, {"config": file}))
        trial.expect(done is not None and done[0] != 0 and "Traceback" not in done[1], f"{text!r}: {done}")


HOMELESS = """
import pwd, sys
def no_account(uid): raise KeyError(uid)
pwd.getpwuid = no_account
sys.argv[0] = "mien"
from mien.cli.main import run
run()
"""


def odd_environments(stage: Stage, trial: Trial) -> None:
    """No home, a long temporary folder, a Kubernetes service of the server's own name."""
    bare = {"PATH": "/usr/bin:/bin"}
    for command in (
        ["serve"],
        ["keys", "list"],
        ["config", "show"],
        ["doctor"],
        ["models", "list"],
        ["apps", "list"],
        ["owners"],
    ):
        done = _run(trial, ["-c", HOMELESS, *command], bare, stage.folder)
        trial.expect(done.returncode in (0, 1, 2), f"{command} without a home: {done.returncode} {done.stderr[-200:]}")
    temporary = stage.folder.joinpath(*["a-folder-with-a-long-name"] * 6)
    temporary.mkdir(parents=True)
    links = {"port": "tcp://10.0.0.7:8080", "service_host": "10.0.0.7", "web_service_port": "80"}
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    try:
        server = stage.serve(data_dir=temporary / "data", app_memory=512 * 1024**2, **links, **stage.light)
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
    api = Api(server.client)
    with stage.watched(trial, server):
        api.deploy("kit", KIT)
        record: dict[str, Any] = server.client.post("/files", files={"file": ("a", b"words", "text/plain")}).json()[
            "data"
        ]
        ended = api.ended(api.run("test/kit", {"do": "file", "file": record["uri"]})["id"])
        trial.expect(ended["status"] == 9, json.dumps(ended))
    stage.forget(server)
    trial.expect(server.stop() == 0, "the server did not end in order")


ROWS: dict[int, Callable[[Stage, Trial], None]] = {
    11: proxy_variables,
    14: modes,
    15: damaged_state,
    19: fronts,
    20: mistakes,
    21: odd_environments,
}
