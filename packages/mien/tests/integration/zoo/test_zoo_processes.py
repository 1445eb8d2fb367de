"""Several processes and killed ones: the cache holds whole models or none, and each is made once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mien.errors import ModelUnavailable
from mien.zoo.manifest import Manifest, Source
from mien.zoo.zoo import Zoo

PULL = """
import os, sys, time
from pathlib import Path
import mien.zoo.acquire as acquire
from mien.zoo.manifest import Manifest, Source
from mien.zoo.zoo import Zoo

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def slow_convert(recipe, source, target):
    data = source.read_bytes()
    with target.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        with (folder / "conversions").open("a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(seconds)
        file.write(data[len(data) // 2 :])

acquire.convert = slow_convert
acquire.require_recipe = lambda recipe: None
manifest = Manifest(
    name="mine", task="labels", family="data", title="t", licence="l", credit="c", convert="slow",
    source=Source(kind="file", path=str(folder / "weights.bin")),
)
sys.stdout.write(str(Zoo(folder / "cache" / "models", {"mine": manifest}).ensure("mine")))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights.bin").write_bytes(os.urandom(1 << 16))
    return tmp_path


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PULL, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def zoo_of(folder: Path) -> Zoo:
    source = Source(kind="file", path=str(folder / "weights.bin"))
    manifest = Manifest(
        name="mine", task="labels", family="data", title="t", licence="l", credit="c", convert="slow", source=source
    )
    return Zoo(folder / "cache" / "models", {"mine": manifest})


def conversions(folder: Path) -> list[str]:
    log = folder / "conversions"
    return log.read_text().splitlines() if log.exists() else []


def wait_for_conversion(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while not conversions(folder):
        assert time.monotonic() < deadline, "no conversion began"
        time.sleep(0.02)


def test_two_processes_that_start_at_once_convert_once(folder: Path) -> None:
    pulls = [start(folder, 1.0) for _ in range(2)]
    said = [pull.communicate(timeout=60)[0] for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0]
    assert said[0] == said[1]
    assert Path(said[0]).read_bytes() == (folder / "weights.bin").read_bytes()
    assert len(conversions(folder)) == 1


def test_a_pull_killed_in_the_middle_leaves_nothing_half_and_the_next_one_succeeds(folder: Path) -> None:
    killed = start(folder, 60)
    wait_for_conversion(folder)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)

    with pytest.raises(ModelUnavailable):
        zoo_of(folder).locate("mine")
    assert list((folder / "cache").rglob("model.onnx")), "the test killed too early to prove anything"

    said = start(folder, 0).communicate(timeout=30)[0]
    assert Path(said) == zoo_of(folder).locate("mine")
    assert Path(said).read_bytes() == (folder / "weights.bin").read_bytes()
    assert list((folder / "cache").rglob("model.onnx")) == [Path(said)]
    assert not list((folder / "cache").rglob("pull-*"))
