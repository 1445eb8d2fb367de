"""A worker that ends closes its own descriptors and nobody else's, on the event loop that servers run on.

With a pipe for the guardian's reports, uvloop closed the descriptor twice. A thread that had opened a file in between
lost it: tasks failed with "Bad file descriptor", and libuv could abort the server.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from mien.apps.process import GuardedProcess, ProcessLimits
from testing.waiting import eventually_async

SERVER = """
import asyncio, os, sys, threading
from pathlib import Path

import uvloop

from mien.apps.process import GuardedProcess, ProcessLimits

folder, over, lost = Path(sys.argv[1]), threading.Event(), 0

def opens_files():
    global lost
    while not over.is_set():
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.listdir(descriptor)
            os.close(descriptor)
        except OSError:
            lost += 1

async def worker():
    process = await GuardedProcess.start(
        ["/bin/true"], environment={}, folder=folder, limits=ProcessLimits(memory=1 << 30, processes=64)
    )
    await process.stdout.read()
    await process.stderr.read()
    await process.wait()

async def main():
    for _ in range(3):
        threading.Thread(target=opens_files, daemon=True).start()
    for _ in range(50):
        await asyncio.gather(*(worker() for _ in range(4)))
    over.set()

uvloop.run(main())
sys.exit(lost)
"""


def test_ends_of_workers_close_nobody_elses_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(tmp_path)], capture_output=True, text=True, timeout=80, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_a_start_that_is_cancelled_leaves_no_descriptor_open(tmp_path: Path, turns: int) -> None:
    """Left to the garbage collector, one failed whatever test it happened in."""
    limits = ProcessLimits(memory=1 << 30, processes=64)
    before = set(Path("/proc/self/fd").iterdir())
    start = asyncio.ensure_future(GuardedProcess.start(["/bin/true"], environment={}, folder=tmp_path, limits=limits))
    for _ in range(turns):
        await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await eventually_async(lambda: set(Path("/proc/self/fd").iterdir()) <= before)
