"""The documented samples, run as they are against a real server with real models."""

import base64
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.chromium import Page, chromium

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


@pytest.mark.limit(300)  # an empty cache: the compiler's whole library is built first
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


@pytest.fixture
def page(server: Any, tmp_path: Path) -> Iterator[Page]:
    with chromium(tmp_path) as page:
        page.open(f"http://localhost:{server.port}/livez")
        yield page


def test_stream_in_a_browser(page: Page, sample: Callable[[str], str]) -> None:
    page.start(script(sample, "stream.html"))
    page.wait_for("stream finished")
    assert [line[0] for line in page.console] == ["chunk:", "stream finished"]
    assert '"vector":[' in page.console[0][2]


def test_fetch_in_a_browser(page: Page, sample: Callable[[str], str]) -> None:
    page.start(script(sample, "embed.html"))
    page.wait_for("success")
    names = [entry["name"] for entry in page.console[0][0]["preview"]["properties"]]
    assert names == ["success", "data"]
