"""The folder in which the workers of one server run, and how a later server knows that none of them is left.

`<data_dir>/workers/<id>/` holds two locked files. `server` is held by the server alone. `family` is held by the server
and inherited by the guardians of all its workers: once it can be locked, every process of every worker is dead.
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
    """The run folder of one server, made and locked here."""

    def __init__(self, root: Path) -> None:
        self.folder = root / secrets.token_hex(6)
        self.folder.mkdir(parents=True, mode=0o700)
        self._server = open_lock(self.folder / "server")
        self.family = open_lock(self.folder / "family")
        try_lock(self._server)
        share_lock(self.family)

    def close(self) -> None:
        """Remove the folder; the workers have ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._server)
        os.close(self.family)


def sweep_orphans(root: Path, seconds: float = 15.0) -> int:
    """Wait until no worker of a dead server is left, and remove their folders; returns how many servers were dead.

    Their guardians kill them when the pipe that the server held reaches its end. Raises InternalError if that takes
    longer than `seconds`: a task that was running there must not be started a second time beside itself.
    """
    dead = 0
    for folder in root.glob("*") if root.exists() else ():
        try:
            server = open_lock(folder / "server")
        except FileNotFoundError:  # half removed
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            if not try_lock(server):
                continue  # another server, alive
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
                raise InternalError("workers of a server that died are still running and do not end; kill them")
            time.sleep(POLL_SECONDS)
    finally:
        os.close(family)
