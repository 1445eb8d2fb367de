"""A real browser: a headless Chromium, driven over its debugging protocol."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from testing.tools import program
from testing.waiting import eventually

SECONDS = 40.0
"""How long a script, or one message of the browser, may take."""


class Page:
    """One page of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._sent = 0
        self.console: list[list[Any]] = []
        """What the page has logged: the arguments of each call."""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the debugging protocol and return its result."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != self._sent:
            pass
        if "result" not in message:
            pytest.fail(f"{method}: {message}")
        result: dict[str, Any] = message["result"]
        return result

    def open(self, url: str) -> None:
        """Navigate as if the user had typed the address, and wait until the page is loaded."""
        self.call("Page.navigate", url=url)
        self.until_at(url)

    def until_at(self, url: str) -> None:
        """Wait for the end of a navigation, which a script may have begun."""
        eventually(lambda: self.run("[location.href, document.readyState]") == [url, "complete"])

    def run(self, script: str) -> Any:
        """The value, as JSON has it, of an expression or of the promise that it is."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        _fail_on_exception(found)
        return found["result"].get("value")

    def start(self, script: str) -> None:
        """Run statements as a page's `<script>` would."""
        found = self.call("Runtime.evaluate", expression=script)
        _fail_on_exception(found)

    def wait_for(self, words: str) -> None:
        """Wait until the page has logged something with these words."""
        while not any(words in str(line) for line in self.console):
            self._receive()

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=SECONDS))
        if message.get("method") == "Runtime.consoleAPICalled":
            self.console.append([argument.get("value", argument) for argument in message["params"]["args"]])
        return message


def _fail_on_exception(evaluated: dict[str, Any]) -> None:
    if "exceptionDetails" in evaluated:
        pytest.fail(f"the script failed: {evaluated['exceptionDetails']}")


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A new browser with an empty profile in `folder`, and its page. Skips the test where there is no Chromium."""
    profile = folder / "profile"
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
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    with ExitStack() as stack:
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        port_file = profile / "DevToolsActivePort"
        eventually(lambda: port_file.exists() and port_file.read_text().count("\n"))
        port = port_file.read_text().split()[0]
        targets = httpx2.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        url = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        page = Page(stack.enter_context(connect(url, max_size=None, proxy=None)))
        page.call("Runtime.enable")
        yield page
