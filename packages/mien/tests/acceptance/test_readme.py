"""What README.md and the pages of the face API show is run as it stands, against a server started as they say."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
PHOTOS = Path(__file__).parent.parent / "photos"
PAGES = ("README.md", "docs/insightface.md", "docs/library.md", "docs/migrating.md")
NOT_RUN = ("make demo", "mien serve", "mien_…")  # run by people, by the fixture, and with a real key elsewhere


def samples(language: str) -> list[Any]:
    """(page, code) of every block in that language that is to be run. Only the README's are run each time."""
    found = []
    for page in PAGES:
        for code in re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            lines = [line for line in code.splitlines() if not line.startswith("mien serve")]
            if not any(word in "\n".join(lines) for word in NOT_RUN):
                marks = () if page == "README.md" else pytest.mark.full
                found.append(pytest.param(page, "\n".join(lines), marks=marks))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands: two photos beside them."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(PHOTOS / "person_a_1.jpg", folder / "photo.jpg")
    shutil.copy(PHOTOS / "person_a_2.jpg", folder / "other.jpg")  # in base64 larger than an argument may be
    return folder


@pytest.fixture
def run(server: Any, folder: Path) -> Callable[[list[str], str], str]:
    """What the code prints. Only the port is another one than documented."""

    def start(command: list[str], code: str) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command,
            input=re.sub(r"\b(8080|18081)\b", str(server.port), code),
            cwd=folder,
            env={**os.environ, "PATH": path, "INFERENCE_BASE_URL": server.url},
            capture_output=True,
            text=True,
            check=False,
            timeout=80,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


@pytest.mark.parametrize(("page", "code"), samples("python"))
def test_python_samples_run(page: str, code: str, folder: Path, run: Callable[[list[str], str], str]) -> None:
    assert run([sys.executable, "-"], code).strip()


@pytest.mark.parametrize(("page", "code"), samples("bash"))
def test_shell_samples_run(page: str, code: str, folder: Path, run: Callable[[list[str], str], str]) -> None:
    output = run(["bash", "-e"], code)
    assert '"success":false' not in output
    assert output.strip() or (folder / "drawn.jpg").exists()
