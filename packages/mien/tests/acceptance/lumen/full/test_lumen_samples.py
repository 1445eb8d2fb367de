"""The documented samples, run as they are against a real server with real models."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from testing.tools import program

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
EXAMPLES = Path(__file__).parents[6] / "examples" / "infer"


def decoded(text: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(base64.b64decode(text))
    return result


def test_curl_sync(run: Callable[..., str], sample: Callable[[str], str]) -> None:
    body = json.loads(run("bash", stdin=sample("sync.sh")))
    assert body["success"] is True
    assert (body["data"]["correlation_id"], body["data"]["is_final"]) == ("req-1", True)
    assert body["data"]["result_mime"] == "application/json;schema=face_v1"
    result = decoded(body["data"]["result"])
    assert result["count"] == len(result["faces"]) == 1
    left, top, right, bottom = result["faces"][0]["bbox"]
    assert 0 <= left < right
    assert 0 <= top < bottom
    assert result["faces"][0]["confidence"] > 0.5


def test_curl_stream(run: Callable[..., str], sample: Callable[[str], str]) -> None:
    *parts, rest = run("bash", stdin=sample("stream.sh")).split("\n\n")
    assert rest == ""
    events = [json.loads(part) for part in parts]
    assert [event["is_final"] for event in events] == [False] * (len(events) - 1) + [True]
    assert {event["correlation_id"] for event in events} == {"stream-1"}
    assert decoded(events[-1]["result_b64"])["count"] == 6


DOCUMENT = Path(__file__).parents[6] / "docs" / "infer.md"
COMMANDS = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_document(run: Callable[..., str], server: Any, command: str) -> None:
    body = json.loads(run("bash", stdin=command.replace("localhost:8080", f"localhost:{server.port}")))
    assert body["success"] is True
    assert decoded(body["data"]["result"])["count"] == 1


def test_go(run: Callable[..., str], server: Any) -> None:
    here = shutil.which("go") or str(Path(sys.executable).parent / "go")
    printed = run(
        here,
        "run",
        str(EXAMPLES / "go_stream" / "main.go"),
        f"http://localhost:{server.port}",
        "a dog",
        GOFLAGS="-mod=mod",
        GOPROXY="off",
        GOTOOLCHAIN="local",
        GO111MODULE="auto",
    )
    assert re.fullmatch(r"chunk 0: \d{4,} bytes of application/json;schema=embedding_v1, final: true\n", printed), (
        printed
    )


# --- JavaScript


def script(sample: Callable[[str], str], name: str) -> str:
    found = SCRIPT.search(sample(name))
    assert found is not None
    return found.group(1)


@pytest.fixture
def node(run: Callable[..., str], server: Any) -> Callable[[str], str]:
    """Runs a page's script in Node.js, where relative URLs need the page's origin said."""
    origin = f"http://localhost:{server.port}"
    resolve = f"const fetched = fetch; globalThis.fetch = (path, options) => fetched('{origin}' + path, options);"
    return lambda text: run("node", "-", stdin=f"{resolve}\n{text}")


def test_fetch_in_node(node: Callable[[str], str], sample: Callable[[str], str]) -> None:
    printed = node(script(sample, "embed.html"))
    assert "correlation_id: 'req-embed-1'" in printed
    assert "result_mime: 'application/json;schema=embedding_v1'" in printed


def test_stream_in_node(node: Callable[[str], str], sample: Callable[[str], str]) -> None:
    printed = node(script(sample, "stream.html"))
    assert printed.startswith("chunk: {")
    assert "correlation_id: 'stream-browser-1'" in printed
    assert printed.endswith("stream finished\n")


# --- a real browser, on a page of the server's own origin


class Page:
    """One page of a headless Chromium, over its debugging protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._sent = 0
        self.console: list[list[Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != self._sent:
            pass
        result: dict[str, Any] = message["result"]
        return result

    def wait_for(self, words: str) -> None:
        while not any(words in str(line) for line in self.console):
            self._receive()

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=20))
        if message.get("method") == "Runtime.consoleAPICalled":
            self.console.append([argument.get("value", argument) for argument in message["params"]["args"]])
        return message


@pytest.fixture
def page(server: Any, tmp_path: Path) -> Iterator[Page]:
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    process = subprocess.Popen(
        [
            program("chromium", "google-chrome"),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={tmp_path / 'profile'}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        port_file, deadline = tmp_path / "profile" / "DevToolsActivePort", time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.05)
        port = port_file.read_text().split()[0]
        targets = httpx2.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        url = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        with connect(url, max_size=None, proxy=None) as socket:
            page = Page(socket)
            page.call("Runtime.enable")
            page.call("Page.navigate", url=f"http://localhost:{server.port}/livez")
            while page.call("Runtime.evaluate", expression="location.pathname")["result"]["value"] != "/livez":
                time.sleep(0.05)
            yield page
    finally:
        process.terminate()
        process.wait(10)


def test_stream_in_a_browser(page: Page, sample: Callable[[str], str]) -> None:
    page.call("Runtime.evaluate", expression=script(sample, "stream.html"))
    page.wait_for("stream finished")
    assert [line[0] for line in page.console] == ["chunk:", "stream finished"]
    assert '"vector":[' in page.console[0][2]


def test_fetch_in_a_browser(page: Page, sample: Callable[[str], str]) -> None:
    page.call("Runtime.evaluate", expression=script(sample, "embed.html"))
    page.wait_for("success")
    names = [entry["name"] for entry in page.console[0][0]["preview"]["properties"]]
    assert names == ["success", "data"]
