"""A worker's directories, and its process."""

import os
import shutil
from pathlib import Path

from infsh._kernel import protocol
from mien.apps.process import GuardedProcess, clean_environment
from mien.storage.disk import disk_errors
from mien.workers.listener import WorkerGone
from mien.workers.worker import WorkerSpec


def make_folders(spec: WorkerSpec) -> None:
    """Create `app` (a copy of the version's files), `home`, `spill` (long messages) and `files` (of runs).

    Raises StorageFull, InternalError; leaves nothing behind then.
    """
    try:
        with disk_errors("the worker was not started"):
            spec.folder.mkdir(parents=True, mode=0o700)
            for name in ("home", "home/tmp", "spill", "files", "files/setup"):
                (spec.folder / name).mkdir(mode=0o700)
            shutil.copytree(spec.content, spec.folder / "app")
    except BaseException:
        remove_folders(spec)
        raise


def remove_folders(spec: WorkerSpec) -> None:
    shutil.rmtree(spec.folder, ignore_errors=True)


async def start_process(spec: WorkerSpec, address: Path, token: str) -> GuardedProcess:
    """Start the kernel in the app's environment, which stays locked until the last process of the worker has ended."""
    variables = {
        **spec.variables,
        protocol.SOCKET_VARIABLE: str(address),
        protocol.TOKEN_VARIABLE: token,
        protocol.SPILL_VARIABLE: str(spec.folder / "spill"),
        protocol.APP_VARIABLE: str(spec.folder / "app"),
        "VIRTUAL_ENV": str(spec.environment.folder),
    }
    environment = spec.environment.hold()
    if environment is None:
        raise WorkerGone("the app's environment was removed while the worker started")
    try:
        return await GuardedProcess.start(
            [str(spec.environment.python), "-m", "infsh._kernel", "serve"],
            environment=clean_environment(spec.folder / "home", spec.environment.path, variables),
            folder=spec.folder / "app",
            limits=spec.limits,
            hold=[environment] if spec.family is None else [environment, spec.family],
        )
    finally:
        os.close(environment)  # the guardian has inherited a copy
