"""A real server, and a folder with the images that the documents name."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from testing.tools import program

EXAMPLES = Path(__file__).parents[5] / "examples" / "infer"


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
def sample(server: Any) -> Callable[[str], str]:
    """An example's text; only the port differs."""

    def read(name: str) -> str:
        return (EXAMPLES / name).read_text().replace("localhost:8080", f"localhost:{server.port}")

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
