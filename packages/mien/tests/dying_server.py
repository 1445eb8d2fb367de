"""`mien` that kills itself with SIGKILL at a step of a file's way into the store: `dying_server.py STEP serve …`."""

import asyncio
import os
import signal
import sys
from typing import Any

from mien.cli.main import run
from mien.storage import files as local
from mien.tasks import platform
from mien.tasks.sql.store import SqlTaskStore

STEP = sys.argv.pop(1)
UPLOADING_ON_DISK = 0.3
"""Seconds after which the status that was reported just before is in the database."""


def reach(step: str) -> None:
    """Die here if this is the step."""
    if step == STEP:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingUpload(local._Upload):
    def _write(self, *, last: bool = False) -> None:
        super()._write(last=last)
        reach("written" if last else "half_written")


class DyingFiles(local.LocalFileStore):
    async def create(self, new: Any) -> Any:
        await asyncio.sleep(UPLOADING_ON_DISK)
        record = await super().create(new)
        reach("announced")
        return record

    def _place(self, upload: Any, sha256: str) -> None:
        super()._place(upload, sha256)
        reach("renamed")

    async def _name(self, file_id: str, upload: Any, kind: str) -> Any:
        record = await super()._name(file_id, upload, kind)
        reach("recorded")
        return record


class DyingTasks(SqlTaskStore):
    async def finish(self, *arguments: Any) -> Any:
        reach("ending")
        task = await super().finish(*arguments)
        reach("ended")
        return task


local._Upload = DyingUpload  # type: ignore[misc]
platform.LocalFileStore = DyingFiles  # type: ignore[misc]
platform.SqlTaskStore = DyingTasks  # type: ignore[misc]
run()
