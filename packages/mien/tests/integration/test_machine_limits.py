"""A real CPU quota, as containers get it, where this machine lets us set one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CONTROLLER = Path("/sys/fs/cgroup/cpu")
PRINT = (
    "from mien.engine.plan import thread_budget; from mien.settings import Execution; print(thread_budget(Execution()))"
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with the quota of one core."""
    folder = (CONTROLLER if CONTROLLER.exists() else CONTROLLER.parent) / f"mien-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        if (folder / "cpu.cfs_quota_us").exists():
            (folder / "cpu.cfs_quota_us").write_text("100000")
        elif (folder / "cpu.max").exists():
            (folder / "cpu.max").write_text("100000 100000")
        else:
            pytest.skip("control groups do not limit the CPU here")
        yield folder
    finally:
        folder.rmdir()


def test_a_quota_of_one_core_gives_models_one_thread(group: Path) -> None:
    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True, preexec_fn=join)
    assert done.stdout.strip() == "1"
