"""What README.md and the page of the face door show is run as it stands, against a server started as they say."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[4]
PHOTOS = Path(__file__).parent.parent / "photos"
PAGES = ("README.md", "docs/insightface.md")
NOT_RUN = ("make demo", "mien serve", "mien_…")  # run by people, by the fixture, and with a real key elsewhere


def samples(language: str) -> list[tuple[str, str]]:
    """(page, code) of every block in that language that is to be run."""
    found = []
    for page in PAGES:
        for code in re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            lines = [line for line in code.splitlines() if not line.startswith("mien serve")]
            if not any(word in "\n".join(lines) for word in NOT_RUN):
                found.append((page, "\n".join(lines)))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands: two photos beside them."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(PHOTOS / "person_a_1.jpg", folder / "photo.jpg")
    shutil.copy(PHOTOS / "person_a_1.jpg", folder / "other.jpg")  # small: the samples pass it as an argument
    return folder


@pytest.fixture(scope="module")
def documented_server(folder: Path) -> Iterator[None]:
    """`mien serve` without options: both documented ports."""
    for port in (8080, 18081):
        wait_until_free(port)
    environment = {**os.environ, "MIEN_DATA_DIR": str(folder / "data"), "MIEN_LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, "-m", "mien", "serve"], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not is_ready() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert is_ready(), "the server did not become ready"
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_until_free(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                time.sleep(0.2)
            else:
                return
    pytest.fail(f"port {port} is taken on this machine; this test needs the documented ports")


def is_ready() -> bool:
    try:
        return httpx2.get("http://127.0.0.1:18081/readyz", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def run(command: list[str], code: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        input=code,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("documented_server")
@pytest.mark.parametrize(("page", "code"), samples("python"))
def test_python_samples_run(page: str, code: str, folder: Path) -> None:
    assert run([sys.executable, "-"], code, folder).strip()


@pytest.mark.usefixtures("documented_server")
@pytest.mark.parametrize(("page", "code"), samples("bash"))
def test_shell_samples_run(page: str, code: str, folder: Path) -> None:
    output = run(["bash", "-e"], code, folder)
    assert '"success":false' not in output
    assert output.strip() or (folder / "drawn.jpg").exists()
