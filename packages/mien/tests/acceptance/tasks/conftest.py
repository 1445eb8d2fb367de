"""A real server with real apps, and short ways to speak to it."""

import io
import json
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

SEED_APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput, File

class AppInput(BaseAppInput):
    image: str  # URL or file path to image
    mask: str   # URL or file path to mask

class AppOutput(BaseAppOutput):
    image: File

class MyApp(BaseApp):
    async def setup(self):
        # Initialize your model here
        pass

    async def run(self, app_input: AppInput) -> AppOutput:
        # Process input and return output
        result_path = "/tmp/result.png"
        return AppOutput(image=File(path=result_path))

    async def unload(self):
        # Clean up resources
        pass
"""

KIT = """
import asyncio
import time
from pathlib import Path
from typing import Any

from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File


class AppSetup(BaseAppSetup):
    slow: float = 0.0
    name: str = "kit"


class AppInput(BaseAppInput):
    do: str = "echo"
    text: str = ""
    times: int = 1
    seconds: float = 0.0
    file: File | None = None


class AppOutput(BaseAppOutput):
    text: str = ""
    count: int = 0
    file: File | None = None


class App(BaseApp):
    async def setup(self, config: AppSetup) -> None:
        self.count = 0
        print("setting up", config.name)
        await asyncio.sleep(config.slow)

    async def run(self, given: AppInput) -> Any:
        self.count += 1
        if given.do == "fail":
            raise ValueError("this went wrong: " + given.text)
        if given.do == "block":
            deadline = time.monotonic() + given.seconds
            while time.monotonic() < deadline:
                sum(range(100000))
        if given.do == "exit":
            import os
            os._exit(3)
        if given.do == "file":
            content = Path(given.file.path).read_bytes()
            target = Path("out.bin")
            target.write_bytes(content[::-1])
            yield AppOutput(text=given.file.filename or "", count=len(content), file=File(path=str(target.resolve())))
            return
        for number in range(given.times):
            await asyncio.sleep(given.seconds)
            print(f"line {number + 1} of {given.text}")
            self.progress((number + 1) / given.times, f"{number + 1} of {given.times}")
            yield AppOutput(text=given.text * (number + 1), count=self.count)

    async def on_cancel(self) -> None:
        print("asked to stop")
"""


def pack(files: dict[str, str]) -> bytes:
    """A zip file of an app's folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, textwrap.dedent(content))
    return packed.getvalue()


class Api:
    """The inference.sh API of one server, and short ways to call it."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.url = str(client.base_url).rstrip("/")

    def deploy(self, name: str, code: str, **more: str) -> dict[str, Any]:
        answer = self.client.post("/apps", content=self.packed(name, code, **more), timeout=120)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def packed(self, name: str, code: str, **more: str) -> bytes:
        """The zip file of an app's folder; `manifest` adds lines to its inf.yml, other names are files."""
        manifest = f"name: {name}\nnamespace: test\n" + more.pop("manifest", "")
        return pack({"inf.yml": manifest, "inference.py": code, **more})

    def run(self, app: str, given: Any = None, **params: Any) -> dict[str, Any]:
        answer = self.client.post("/run", json={"app": app, "input": given, **params})
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def task(self, task_id: str) -> dict[str, Any]:
        data: dict[str, Any] = self.client.get(f"/tasks/{task_id}").json()["data"]
        return data

    def frames(self, task_id: str, **headers: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids and frames of the task's event stream."""
        with self.client.stream("GET", f"/tasks/{task_id}/stream", headers=headers, timeout=60) as response:
            assert response.status_code == 200
            known = ""
            for line in response.iter_lines():
                assert line.isascii()
                if line.startswith("id:"):
                    known = line.removeprefix("id:").strip()
                elif line.startswith("data:"):
                    yield known, json.loads(line.removeprefix("data:"))

    def ended(self, task_id: str) -> dict[str, Any]:
        """The terminal frame."""
        return list(self.frames(task_id))[-1][1]

    def until(self, task_id: str, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not wanted(task := self.task(task_id)):
            assert time.monotonic() < deadline, task
            time.sleep(0.02)
        return task


@pytest.fixture(scope="session")
def api(serve_session: Any, light: dict[str, str]) -> Api:
    server = serve_session(app_memory=512 * 1024**2, app_workers=3, task_grace=1, fetch_private=True, **light)
    found = Api(server.client)
    found.deploy("kit", KIT)
    return found


@pytest.fixture(scope="session")
def seed_app() -> str:
    return SEED_APP


@pytest.fixture(scope="session")
def kit() -> str:
    return KIT


@pytest.fixture(scope="session")
def make_api() -> type[Api]:
    return Api


@pytest.fixture
def result_file() -> Iterator[Path]:
    """What the seed's sample returns."""
    path = Path("/tmp/result.png")
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    yield path
    path.unlink() if before is None else path.write_bytes(before)
