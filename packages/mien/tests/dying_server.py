"""`mien` that kills itself with SIGKILL at a step of a file's way into the store: `dying_server.py STEP serve …`."""

import asyncio
import os
import signal
import sys
from typing import Any

from mien import app
from mien.cli.main import run
from mien.storage import local_blobs
from mien.storage.file_table import FileTable
from mien.tasks.sql.store import SqlTaskStore

STEP = sys.argv.pop(1)
UPLOADING_ON_DISK = 0.3
"""Seconds after which the status that was reported just before is in the database."""


def reach(step: str) -> None:
    """Die here if this is the step."""
    if step == STEP:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingUpload(local_blobs.LocalUpload):
    def _write(self, *, last: bool = False) -> None:
        super()._write(last=last)
        reach("written" if last else "half_written")

    async def keep(self) -> None:
        await super().keep()
        reach("renamed")


class DyingTable(FileTable):
    async def insert(self, record: Any) -> None:
        await asyncio.sleep(UPLOADING_ON_DISK)
        await super().insert(record)
        reach("announced")

    async def fill(self, *arguments: Any) -> Any:
        record = await super().fill(*arguments)
        reach("recorded")
        return record


class DyingTasks(SqlTaskStore):
    async def finish(self, *arguments: Any) -> Any:
        reach("ending")
        task = await super().finish(*arguments)
        reach("ended")
        return task


local_blobs.LocalUpload = DyingUpload  # type: ignore[misc]
app.FileTable = DyingTable  # type: ignore[misc]
app.SqlTaskStore = DyingTasks  # type: ignore[misc]
run()
