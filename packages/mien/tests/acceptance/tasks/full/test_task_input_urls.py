"""Files that a task's input names by URL: fetched by the server, given to the app as local files."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

SETTINGS = """
from pathlib import Path

from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File

class AppSetup(BaseAppSetup):
    file: File

class AppOutput(BaseAppOutput):
    text: str

class App(BaseApp):
    async def setup(self, config: AppSetup) -> None:
        self.text = Path(config.file.path).read_text()

    async def run(self, given: BaseAppInput) -> AppOutput:
        return AppOutput(text=self.text)
"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A web server whose paths are the statuses of its responses; `/slow` never ends one."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = self.path.split("/")[1].partition("?")[0]
            self.send_response(int(first) if first.isdecimal() else 200)
            self.send_header("Content-Type", "text/markdown")
            self.send_header("Content-Length", "1000" if first == "slow" else "7")
            self.end_headers()
            self.wfile.write(b"fetched")
            if first == "slow":
                stopped.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    stopped.set()
    server.shutdown()
    server.server_close()


def test_an_app_gets_a_local_file(api: Any, site: str) -> None:
    ended = api.ended(api.run("test/kit", {"do": "file", "file": f"{site}/200/a%20b.txt?token=secret"})["id"])
    assert (ended["status"], ended["output"]["text"], ended["output"]["count"]) == (9, "a b.txt", 7)
    assert httpx2.get(ended["output"]["file"], trust_env=False).content == b"dehctef"


@pytest.mark.parametrize(("path", "code"), [
    ("404", "source_not_found"), ("403", "source_failed"), ("503", "source_failed"),
])  # fmt: skip
def test_a_file_that_cannot_be_fetched_fails_the_task_with_its_field_and_url(
    api: Any, site: str, path: str, code: str
) -> None:
    task = api.ended(api.run("test/kit", {"do": "file", "file": f"{site}/{path}/x?token=secret"})["id"])
    assert (task["status"], task["error_code"]) == (10, code)
    assert f"`file` is not available: {site}/{path}/x" in task["error"]
    assert "secret" not in task["error"]
    assert task["attempt"] == 1


def test_a_task_that_waits_for_its_file_ends_at_its_deadline_and_when_it_is_cancelled(api: Any, site: str) -> None:
    given = {"do": "file", "file": f"{site}/slow"}
    late = api.run("test/kit", given, timeout=1.0)
    cancelled = api.run("test/kit", given)
    api.until(cancelled["id"], lambda task: task["status_name"] == "running")
    assert api.client.post(f"/tasks/{cancelled['id']}/cancel").status_code == 200
    assert api.ended(cancelled["id"])["status_name"] == "cancelled"
    assert api.ended(late["id"])["error_code"] == "deadline_exceeded"


def test_the_setup_takes_files_in_the_same_ways(api: Any, site: str) -> None:
    api.deploy("settings", SETTINGS)
    record = api.client.post("/files", files={"file": ("a.txt", b"uploaded", "text/plain")}).json()["data"]
    for file, text in ((f"{site}/200/x", "fetched"), (record["uri"], "uploaded"), ("data:,given", "given")):
        task = api.run("test/settings", {}, setup={"file": file})
        assert api.ended(task["id"])["output"]["text"] == text
    failed = api.ended(api.run("test/settings", {}, setup={"file": "/etc/passwd"})["id"])
    assert (failed["status"], failed["error_code"]) == (10, "setup_failed")


def test_a_text_that_looks_like_a_file_of_the_server_stays_a_text(api: Any) -> None:
    record = api.client.post("/files", files={"file": ("a.txt", b"uploaded", "text/plain")}).json()["data"]
    for text in (f"mien-file://{record['id']}/a.txt", f"mien-file://{'a' * 26}/a.txt", "mien-file://text/x"):
        task = api.run("test/kit", {"text": text})
        assert task["input"] == {"text": text}
        ended = api.ended(task["id"])
        assert (ended["output"]["text"], ended["input"]["text"]) == (text, text)
        refused = api.ended(api.run("test/kit", {"do": "file", "file": text})["id"])
        assert (refused["status"], refused["error_code"]) == (10, "invalid_input")
