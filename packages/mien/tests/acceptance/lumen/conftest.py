"""A real server on the port that the documents name, and a folder with the images that they name."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx2
import numpy as np
import pytest

from testing.tools import program

EXAMPLES = Path(__file__).parents[5] / "examples" / "infer"
DOCUMENTED = 8080
START_SECONDS = 60.0


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def documented(serve_module: Callable[..., Any]) -> Iterator[Any]:
    """A server on port 8080, or on another one if that is taken on this machine."""
    if not _free(DOCUMENTED):
        yield serve_module()
        return
    server = serve_module("--port", str(DOCUMENTED), ready=False)
    server.port, server.url = DOCUMENTED, f"http://127.0.0.1:{DOCUMENTED}"
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as server.client:
        deadline = time.monotonic() + START_SECONDS
        while not _ready(server.client):
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        yield server


def _ready(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


@pytest.fixture
def here(tmp_path: Path, photo: bytes, collage: bytes) -> Path:
    (tmp_path / "image.jpg").write_bytes(photo)
    # The samples put the image on curl's command line, and Linux takes at most 128 KiB for one argument.
    image = cv2.imdecode(np.frombuffer(collage, np.uint8), cv2.IMREAD_COLOR)
    smaller = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes()
    assert len(smaller) < 95_000
    (tmp_path / "large_image.jpg").write_bytes(smaller)
    return tmp_path


@pytest.fixture
def sample(documented: Any) -> Callable[[str], str]:
    """An example's text; only the port differs, and only if the documented one is taken."""

    def read(name: str) -> str:
        return (EXAMPLES / name).read_text().replace("localhost:8080", f"localhost:{documented.port}")

    return read


@pytest.fixture
def run(here: Path) -> Iterator[Callable[..., str]]:
    """Runs a program in the images' folder and returns what it printed."""
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}

    def start(*command: str, stdin: str = "", **variables: str) -> str:
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            cwd=here,
            check=False,
            env=environment | variables,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start
