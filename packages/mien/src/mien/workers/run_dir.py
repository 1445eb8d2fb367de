"""The directory in which the workers of one server process run, and how a later one knows that all have ended.

`<data_dir>/workers/<id>/` contains two lock files. `server` is locked by the server alone. `family` is locked by the
server and inherited by the guardians of all its workers: once it can be locked, all processes of its workers are dead.
"""

import os
import secrets
import shutil
import time
from pathlib import Path

from mien.errors import InternalError
from mien.locks import open_lock, share_lock, try_lock

POLL_SECONDS = 0.02


class WorkerRunDir:
    """The run directory of one server process, created and locked on construction."""

    def __init__(self, root: Path) -> None:
        self.folder = root / secrets.token_hex(6)
        self.folder.mkdir(parents=True, mode=0o700)
        self._server = open_lock(self.folder / "server")
        self.family = open_lock(self.folder / "family")
        try_lock(self._server)
        share_lock(self.family)

    def close(self) -> None:
        """Remove the directory; call once all workers have ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._server)
        os.close(self.family)


def sweep_orphans(root: Path, seconds: float = 15.0) -> int:
    """Wait until the workers of dead servers have ended, and remove their directories; returns the number of servers.

    Guardians kill their workers when the pipe from the server reaches its end. Raises InternalError if that takes
    longer than `seconds`: a task that still runs there must not be started a second time.
    """
    dead = 0
    for folder in root.glob("*") if root.exists() else ():
        try:
            server = open_lock(folder / "server")
        except FileNotFoundError:  # partially removed
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            if not try_lock(server):
                continue  # that server is alive
            _wait_for_family(folder, time.monotonic() + seconds)
            shutil.rmtree(folder, ignore_errors=True)
            dead += 1
        finally:
            os.close(server)
    return dead


def _wait_for_family(folder: Path, deadline: float) -> None:
    family = open_lock(folder / "family")
    try:
        while not try_lock(family):
            if time.monotonic() > deadline:
                raise InternalError("workers of a server that died are still running; kill them and try again")
            time.sleep(POLL_SECONDS)
    finally:
        os.close(family)
