"""Periodic jobs of a server: purge expired files, remove unused environments, notice newly deployed apps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from mien.apps.cleaning import clean
from mien.apps.environments import Environments
from mien.apps.registry import AppRegistry
from mien.errors import MienError
from mien.storage.file_store import FileStore
from mien.tasks.app_services import AppServices
from mien.tasks.machine import wall_clock
from mien.tasks.retention import RetentionClock

log = structlog.get_logger()
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Chore:
    """A periodic job. A failed run is logged and does not stop later ones."""

    work: Callable[[], Awaitable[None]]
    every: float
    """Seconds from the end of one run to the start of the next."""
    failed: str
    """The log message if it fails."""


def purge_files(files: FileStore, clock: RetentionClock) -> Chore:
    """Remove files whose retention period has ended."""

    async def work() -> None:
        await files.purge(await clock.now())

    return Chore(work, 600.0, "old files could not be removed")


def clean_environments(environments: Environments, apps: AppRegistry, keep_days: float) -> Chore:
    """Remove environments that no deployed version needs, `keep_days` after their last use."""

    async def work() -> None:
        gone = await asyncio.to_thread(clean, environments, apps, seconds=keep_days * DAY, now=wall_clock())
        for environment in gone:
            log.info("an unused environment was removed", environment=environment.key, bytes=environment.size)

    return Chore(work, 3600.0, "unused environments could not be removed")


def refresh_services(services: AppServices) -> Chore:
    """Update the services of deployed apps: the CLI deploys, rolls back and removes apps without telling the server."""
    return Chore(services.refresh, 3.0, "the apps' services could not be looked up")


@asynccontextmanager
async def housekeeping(chores: Sequence[Chore]) -> AsyncIterator[None]:
    """Run the chores periodically, each for the first time right away, until the context ends."""
    loops = [asyncio.create_task(_repeat(chore)) for chore in chores]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def _repeat(chore: Chore) -> None:
    while True:
        try:
            await chore.work()
        except (MienError, OSError) as error:
            log.error(chore.failed, error=str(error))
        await asyncio.sleep(chore.every)
