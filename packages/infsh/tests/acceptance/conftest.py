"""A running Mien server with real apps."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing.ports import free_port

APPS = {
    "your-app": """
        import asyncio
        from typing import Any
        from infsh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File

        class AppSetup(BaseAppSetup):
            model: str = "default"

        class AppInput(BaseAppInput):
            key: str = ""
            prompt: str = ""
            image: File | None = None
            seconds: float = 0
            fail: str = ""

        class AppOutput(BaseAppOutput):
            text: str
            model: str
            image: File | None = None

        class App(BaseApp):
            async def setup(self, config: AppSetup):
                self.model = config.model

            async def run(self, app_input: AppInput) -> AppOutput:
                print("working on", app_input.key or app_input.prompt)
                self.progress(0.5, "half way")
                await asyncio.sleep(app_input.seconds)
                if app_input.fail:
                    raise ValueError(app_input.fail)
                if app_input.image is not None:
                    await app_input.image.ensure()
                return AppOutput(text=app_input.key or app_input.prompt, model=self.model, image=app_input.image)
    """
}


@dataclass
class Mien:
    """A server's folder; `serving()` runs the server."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
        if "MIEN_CACHE_DIR" in os.environ:
            inherited["MIEN_CACHE_DIR"] = os.environ["MIEN_CACHE_DIR"]
        return {
            **inherited,
            "MIEN_DATA_DIR": str(self.folder / "data"),
            "MIEN_LOG_LEVEL": "warning",
            "MIEN_DRAIN_SECONDS": "1",
        }

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`mien …`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mien", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def deploy(self, name: str, source: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / "inf.yml").write_text(f"name: {name}\n")
        (folder / "inference.py").write_text(textwrap.dedent(source))
        done = self.command("apps", "deploy", str(folder))
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def serving(self, port: int | None = None) -> Iterator[str]:
        port = port or free_port()
        log = self.folder / f"mien-{port}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mien", "serve", "--port", str(port)],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    break
                time.sleep(0.05)
            else:
                pytest.fail(f"Mien did not become ready:\n{log.read_text()[-4000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def mien_factory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Mien]:
    """Makes folders of servers with the apps deployed."""

    def make() -> Mien:
        mien = Mien(tmp_path_factory.mktemp("mien"))
        for name, source in APPS.items():
            mien.deploy(name, source)
        return mien

    return make


@pytest.fixture(scope="session")
def mien_folder(mien_factory: Callable[[], Mien]) -> Mien:
    """The folder of the server that most tests share."""
    return mien_factory()


@pytest.fixture(scope="session")
def mien(mien_folder: Mien) -> Iterator[str]:
    """Address of a running server."""
    with mien_folder.serving() as address:
        yield address
