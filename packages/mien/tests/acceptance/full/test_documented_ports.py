"""`mien serve` without options listens where the documents say: on both ports of 127.0.0.1."""

import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from testing.waiting import eventually

PORTS = (8080, 18081)


@pytest.fixture
def own_ports() -> Iterator[None]:
    """The ports belong to the whole machine, so runs of this suite take turns."""
    with (Path(tempfile.gettempdir()) / "mien-documented-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN} & {*PORTS}
        if taken:
            pytest.skip(f"port {min(taken)} is taken on this machine")
        yield


def ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.usefixtures("own_ports")
def test_both_ports_answer(tmp_path: Path, server_environment: Callable[..., dict[str, str]]) -> None:
    process = subprocess.Popen([sys.executable, "-m", "mien", "serve"], env=server_environment(tmp_path))
    try:
        for port in PORTS:
            eventually(lambda port=port: ready(port))
    finally:
        process.terminate()
        assert process.wait(30) == 0
