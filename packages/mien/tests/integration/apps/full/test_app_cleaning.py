"""Cleaning away environments: real ones, real workers in them, and real processes that build."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien.apps.cleaning import YOUNGEST, clean
from mien.apps.deploy import Deployer
from mien.apps.environment import Environment, EnvironmentSpec
from mien.apps.environments import Environments
from mien.apps.process import ProcessLimits
from mien.apps.reference import AppRef
from mien.apps.registry import AppRegistry
from mien.encoded import Encoded
from mien.errors import InternalError
from mien.settings import Settings
from mien.workers.listener import NullListener, WorkerGone
from mien.workers.local_process import LocalWorker
from mien.workers.worker import WorkerSpec

DAY = 86400.0
EMPTY = EnvironmentSpec()
APP = """
    from infsh import BaseApp, BaseAppInput, BaseAppOutput

    class AppInput(BaseAppInput):
        pass

    class AppOutput(BaseAppOutput):
        pass

    class App(BaseApp):
        def run(self, given: AppInput) -> AppOutput:
            return AppOutput()
"""


class House:
    """The environments and the deployed apps of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder / "data", cache_dir=folder / "cache")
        self.environments = Environments(self.settings.locations.environments_dir)
        self.apps = AppRegistry(self.settings.locations.apps_dir)

    def deploy(self, name: str, more: str = "") -> Any:
        source = self.folder / name
        source.mkdir(exist_ok=True)
        (source / "inf.yml").write_text(f"name: {name}\nnamespace: test\n")
        (source / "inference.py").write_text(textwrap.dedent(APP) + more)
        return asyncio.run(
            Deployer(self.settings.apps, self.settings.workers, self.apps, self.environments).deploy(source)
        )

    def environment(self) -> Environment:
        return asyncio.run(self.environments.ensure(EMPTY))

    def clean(self, days: float = 30, **options: Any) -> list[str]:
        return [
            gone.key for gone in clean(self.environments, self.apps, seconds=days * DAY, now=time.time(), **options)
        ]

    def folders(self) -> list[str]:
        """All that lies in the folder of environments but the SDK's wheels."""
        return sorted(path.name for path in self.environments.root.iterdir() if path.is_dir() and path.name != "wheels")


def age(environment: Environment, days: float = 31) -> None:
    """As if it had not been used for so long."""
    at = time.time() - days * DAY
    os.utime(environment.record, (at, at))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_nothing_asks_for_goes_after_its_days(house: House) -> None:
    environment = house.environment()
    assert house.clean() == []
    age(environment, 29)
    assert house.clean() == []
    age(environment, 31)
    assert house.clean(dry=True) == [environment.key]
    assert house.folders() == [environment.key]
    (gone,) = clean(house.environments, house.apps, seconds=30 * DAY, now=time.time())
    assert (gone.key, gone.requirements) == (environment.key, "")
    assert gone.size > 100_000
    assert house.folders() == []
    assert house.environment() == environment  # made again when it is needed
    assert house.folders() == [environment.key]


def test_using_it_begins_the_days_anew(house: House) -> None:
    environment = house.environment()
    age(environment)
    house.environment()
    assert house.clean() == []


def test_within_the_hour_nothing_goes_whatever_is_asked_for(house: House) -> None:
    environment = house.environment()
    assert house.clean(days=0) == []
    age(environment, (YOUNGEST + 60) / DAY)
    assert house.clean(days=0) == [environment.key]


def test_what_a_deployed_version_asks_for_stays_and_goes_after_the_last_one(house: House) -> None:
    first, second = house.deploy("one"), house.deploy("one", "# changed\n")
    environment = house.environment()
    for version in (first, second):
        age(environment)
        assert house.clean() == []
        assert environment.record.stat().st_mtime > time.time() - 60  # counts as a use, for others to see
        house.apps.remove(AppRef("test", "one", version.version.version))
    assert house.clean() == []
    age(environment)
    assert house.clean() == [environment.key]


def test_apps_of_which_nothing_is_known_are_no_reason_to_clean(house: House) -> None:
    environment = house.environment()
    house.deploy("one")
    (house.settings.locations.apps_dir / "test" / "one" / "index.json").write_text("{")
    age(environment)
    with pytest.raises(InternalError):
        house.clean()
    assert house.folders() == [environment.key]


def worker_in(house: House, environment: Environment) -> WorkerSpec:
    content = house.folder / "content"
    content.mkdir()
    (content / "inf.yml").write_text("name: one\nnamespace: test\n")
    (content / "inference.py").write_text(textwrap.dedent(APP))
    return WorkerSpec("w", environment, content, house.folder / "worker", ProcessLimits(2**30))


async def test_an_environment_that_a_worker_runs_in_stays_until_the_worker_has_ended(house: House) -> None:
    environment = await house.environments.ensure(EMPTY)
    worker = await LocalWorker.start(worker_in(house, environment), NullListener())
    age(environment)
    assert house.clean() == []
    assert await worker.setup(None, {}, NullListener()) >= 0
    assert await worker.run("r", None, Encoded.of({}), {}, NullListener()) is not None
    await worker.unload(5)
    assert house.clean() == [environment.key]


async def test_a_worker_whose_environment_was_cleaned_away_says_so(house: House) -> None:
    environment = await house.environments.ensure(EMPTY)
    age(environment)
    assert house.clean() == [environment.key]
    with pytest.raises(WorkerGone, match="removed while the worker started"):
        await LocalWorker.start(worker_in(house, environment), NullListener())


BUILD = """
import asyncio, sys
from pathlib import Path
from mien.apps.environment import EnvironmentSpec
from mien.apps.environments import Environments
asyncio.run(Environments(Path(sys.argv[1])).ensure(EnvironmentSpec(), lambda line: print(line, flush=True)))
"""


def building(house: House) -> "subprocess.Popen[str]":
    """A process that has begun to make the environment, stopped in the middle of it."""
    command = [sys.executable, "-c", BUILD, str(house.environments.root)]
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    next(line for line in builder.stdout if "creating" in line)
    os.kill(builder.pid, signal.SIGSTOP)
    return builder


def test_what_another_process_builds_is_left_alone(house: House) -> None:
    builder = building(house)
    try:
        before = house.folders()
        assert [name.startswith("staging-") for name in before] == [True]
        assert house.clean(days=0) == []
        assert house.folders() == before
    finally:
        os.kill(builder.pid, signal.SIGCONT)
        builder.communicate(timeout=60)
    assert builder.returncode == 0
    assert house.folders() == [house.environments.key(EMPTY)]


def test_what_a_killed_build_left_is_removed(house: House) -> None:
    builder = building(house)
    builder.kill()
    builder.communicate()
    deadline = time.monotonic() + 20  # its guardian holds the lock until what it started has ended
    while house.folders() and time.monotonic() < deadline:
        house.clean()
        time.sleep(0.05)
    assert house.folders() == []


def test_the_command_shows_and_removes(house: House, mien: Callable[..., Any]) -> None:
    environment = house.environment()
    age(environment)
    folders = {"data_dir": house.settings.locations.data_dir, "cache_dir": house.settings.locations.cache_dir}
    shown = mien("apps", "prune", "--dry-run", **folders)
    assert shown.returncode == 0, shown.stderr
    assert environment.key in shown.stdout
    assert "would be removed: 1 environment, " in shown.stderr
    assert "removed: 0 environments" in mien("apps", "prune", "--days", "60", **folders).stderr
    assert "removed: 1 environment, " in mien("apps", "prune", **folders).stderr
    assert house.folders() == []
    kept = mien("apps", "prune", environment_keep_days="none", **folders)
    assert (kept.returncode, "use --days" in kept.stderr) == (1, True)


def test_a_server_cleans_by_itself(house: House, serve: Callable[..., Any]) -> None:
    house.settings.locations.cache_dir.mkdir()
    (house.settings.locations.cache_dir / "models").symlink_to(Settings().locations.models_dir)
    house.deploy("one")
    environment = house.environment()
    unused = Environment("0" * 20, environment.folder.with_name("0" * 20))
    subprocess.run(["cp", "-a", str(environment.folder), str(unused.folder)], check=True)
    for one in (environment, unused):
        age(one, 3)
    none = dict.fromkeys(("age_model", "gender_model", "mask_model", "image_model", "text_model"), "none")
    server = serve(
        data_dir=house.settings.locations.data_dir,
        cache_dir=house.settings.locations.cache_dir,
        environment_keep_days=2,
        **none,
    )
    deadline = time.monotonic() + 20
    while house.folders() != [environment.key] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert house.folders() == [environment.key]
    assert unused.key in server.log
