"""A killed server leaves no workers behind, and its successor waits for their end."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mien.workers.run_dir import WorkerRunDir, sweep_orphans

SCRIPT = Path(__file__).with_name("orphan_server.py")
BODY = """
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(25)
    os._exit(0)
print("pids", os.getpid(), os.getppid(), child)
time.sleep(25)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def killed(app_folder: Any, apps_cache: Path, tmp_path: Path) -> tuple[Path, list[int]]:
    """The data folder of a server that was just killed with SIGKILL, and the processes that its worker had."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    environment = {**inherited, "MIEN_DATA_DIR": str(tmp_path / "data"), "MIEN_CACHE_DIR": str(apps_cache)}
    command = [sys.executable, str(SCRIPT), str(app_folder("stuck", body=BODY))]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("pids"))
        pids = [int(word) for word in line.split()[1:]]
        assert all(alive(pid) for pid in pids)
        server.kill()
    return tmp_path / "data" / "workers", pids


def test_workers_end_with_their_server(killed: tuple[Path, list[int]]) -> None:
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in killed[1]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [pid for pid in killed[1] if alive(pid)] == []


def test_the_next_server_waits_for_them(killed: tuple[Path, list[int]]) -> None:
    folder, pids = killed
    assert sweep_orphans(folder) == 1
    assert [pid for pid in pids if alive(pid)] == []
    assert list(folder.iterdir()) == []


def test_a_living_server_is_left_alone(tmp_path: Path) -> None:
    living = WorkerRunDir(tmp_path)
    assert sweep_orphans(tmp_path) == 0
    assert living.folder.exists()
    living.close()
    assert sweep_orphans(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
