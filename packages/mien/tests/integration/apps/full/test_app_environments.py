"""Real environments, made by uv."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infsh._kernel.protocol import VERSION
from mien.apps.environment import Environment, EnvironmentSpec
from mien.apps.environments import Environments
from mien.errors import EnvironmentFailed

OLD_PACKAGING = EnvironmentSpec("packaging==20.9  # the server has a newer one\ninferencesh\n")
BUILD = """
import asyncio, sys
from pathlib import Path
from mien.apps.environment import EnvironmentSpec
from mien.apps.environments import Environments
spec = EnvironmentSpec(sys.argv[2])
print(asyncio.run(Environments(Path(sys.argv[1])).ensure(spec, lambda line: print(line, flush=True))).key)
"""


def printed(environment: Environment, code: str) -> str:
    command = [str(environment.python), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="module")
def old_packaging(root: Path) -> Environment:
    return asyncio.run(Environments(root).ensure(OLD_PACKAGING))


def build(root: Path, requirements: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILD, str(root), requirements]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_apps_version_wins_and_does_not_leak(old_packaging: Environment) -> None:
    import packaging

    assert printed(old_packaging, "import packaging; print(packaging.__version__)") == "20.9"
    assert packaging.__version__ != "20.9"


def test_the_server_does_not_leak_into_the_app(old_packaging: Environment) -> None:
    code = "import importlib.util as u; print([n for n in ('fastapi', 'mien', 'onnxruntime', 'pip') if u.find_spec(n)])"
    assert printed(old_packaging, code) == "[]"


def test_the_sdk_is_this_servers(old_packaging: Environment) -> None:
    """Also where the requirements name the SDK: the one of the package index would be another."""
    code = "import infsh, inferencesh, infsh._kernel.protocol as p; print(p.VERSION, infsh.__file__)"
    version, path = printed(old_packaging, code).split()
    assert version == str(VERSION)
    assert Path(path).is_relative_to(old_packaging.folder)


async def test_an_app_without_requirements_needs_no_network(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    lines: list[str] = []
    environments = Environments(root)
    found = await environments.ensure(EnvironmentSpec("# nothing\n"), lines.append)
    assert any("copying" in line for line in lines)
    assert printed(found, "import infsh, pydantic, httpx2, yaml; print('fine')") == "fine"
    assert await environments.ensure(EnvironmentSpec("")) == found


async def test_an_environment_is_made_once(root: Path, old_packaging: Environment) -> None:
    environments = Environments(root)
    lines: list[str] = []
    same = EnvironmentSpec("inferencesh\n\npackaging==20.9\n")
    assert await environments.ensure(same, lines.append) == old_packaging
    assert lines == []
    assert environments.find(EnvironmentSpec("packaging==21.0")) is None


async def test_everybody_who_waits_hears_of_the_build(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    heard: list[list[str]] = [[], [], []]
    found = await asyncio.gather(*(environments.ensure(EnvironmentSpec(), lines.append) for lines in heard))
    assert found[0] == found[1] == found[2]
    assert heard[0] == heard[1] == heard[2]
    assert "is ready after" in heard[0][-1]


async def test_what_cannot_be_resolved_is_said_in_the_resolvers_words(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)six==99.*unsatisfiable") as caught:
        await Environments(tmp_path).ensure(EnvironmentSpec("six==99\n"))
    assert str(tmp_path) not in caught.value.message
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["wheels"]


async def test_constraints_hold_for_every_app(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("six==1.15.0\n")
    environments = Environments(tmp_path / "environments", constraints=constraints)
    assert environments.key(EnvironmentSpec("six")) != Environments(tmp_path).key(EnvironmentSpec("six"))
    found = await environments.ensure(EnvironmentSpec("six"))
    assert printed(found, "import six; print(six.__version__)") == "1.15.0"


async def test_a_python_that_is_not_here_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"3\.99"):
        await Environments(tmp_path).ensure(EnvironmentSpec(python="3.99"))


def test_two_processes_build_once(tmp_path: Path) -> None:
    builders = [build(tmp_path, "six==1.16.0") for _ in range(2)]
    said = [builder.communicate()[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert said[0].split()[-1] == said[1].split()[-1]
    assert sum("is ready after" in text for text in said) == 1


def test_a_killed_build_leaves_nothing_half(tmp_path: Path) -> None:
    builder = build(tmp_path, "six==1.16.0")
    assert builder.stdout is not None
    next(line for line in builder.stdout if "creating" in line)
    time.sleep(0.15)
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate()
    environments = Environments(tmp_path)
    assert environments.find(EnvironmentSpec("six==1.16.0")) is None
    found = asyncio.run(environments.ensure(EnvironmentSpec("six==1.16.0")))
    assert printed(found, "import six; print(six.__version__)") == "1.16.0"
    assert list(tmp_path.glob("staging-*")) == []


async def test_a_build_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    environments = Environments(tmp_path)
    started = asyncio.Event()
    waiting = asyncio.create_task(environments.ensure(EnvironmentSpec("six==1.16.0"), lambda line: started.set()))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for _ in range(250):
        if not list(tmp_path.glob("staging-*")):
            break
        await asyncio.sleep(0.02)
    assert list(tmp_path.glob("staging-*")) == []
    assert environments.find(EnvironmentSpec("six==1.16.0")) is None
