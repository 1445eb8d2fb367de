"""A server for the test that kills it: one app that runs, and a child of it that left its session."""

import asyncio
import sys
from pathlib import Path

from mien.apps.deploy import Deployer
from mien.apps.environments import Environments
from mien.apps.registry import AppRegistry
from mien.encoded import Encoded
from mien.settings import Settings
from mien.workers.job import Job
from mien.workers.listener import Stage
from mien.workers.placement import LocalPlacement
from mien.workers.pool import WorkerPool, need_of
from mien.workers.run_dir import WorkerRunDir
from mien.workers.slots import WorkerKey


class Listener:
    def stage(self, stage: Stage) -> None: ...

    def log(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def progress(self, fraction: float, message: str | None = None) -> None: ...

    def output(self, value: object) -> None: ...


async def main(folder: Path) -> None:
    settings = Settings()
    registry = AppRegistry(settings.locations.apps_dir)
    environments = Environments(settings.locations.environments_dir)
    app = await Deployer(settings.apps, settings.workers, registry, environments).deploy(folder)
    pool = WorkerPool(
        settings.workers,
        LocalPlacement.from_settings(settings.workers),
        environments,
        WorkerRunDir(settings.locations.workers_dir),
    )
    key, need = WorkerKey(app.version.app, app.version.version), need_of(app, "default", settings.workers)

    async def prepare(worker: object) -> Encoded:
        return Encoded.of({})

    async def finish(worker: object, output: object) -> object:
        return output

    await pool.run(pool.reserve(key, need), Job("run", app, "default", None, None, {}), Listener(), prepare, finish)


asyncio.run(main(Path(sys.argv[1])))
