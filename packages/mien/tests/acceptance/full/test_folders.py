"""`mien faces` on folders, in processes that are interrupted and killed."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from testing.waiting import eventually

IMAGES = 160


@pytest.fixture
def album(tmp_path: Path, photos: dict[str, bytes]) -> Path:
    """A folder of many images, one of which has a name that is not UTF-8, with a pipe among them."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(IMAGES - 1):
        (folder / f"{number:03}.jpg").write_bytes(list(photos.values())[number % len(photos)])
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(photos["person_a_1"])
    os.mkfifo(folder / "150.png")
    return folder


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, server_environment: Callable[..., dict[str, str]]) -> Iterator[Start]:
    """Starts `mien faces` with these arguments."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **files: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mien", "faces", *arguments]
        environment = server_environment(tmp_path / "data", threads=2)
        started.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, **files))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@contextmanager
def stopped_after(lines: int, process: "subprocess.Popen[bytes]", target: Path, kind: signal.Signals) -> Iterator[None]:
    eventually(lambda: lines_of(target) >= lines or process.poll() is not None)
    assert process.poll() is None
    process.send_signal(kind)
    process.wait(60)
    yield


def paths_in(target: Path) -> list[str]:
    if target.suffix == ".csv":
        with target.open(newline="") as file:
            return [row["path"] for row in csv.DictReader(file)]
    return [json.loads(line)["path"] for line in target.read_bytes().splitlines()]


@pytest.mark.parametrize("name", ["faces.jsonl", "faces.csv"])
def test_a_run_that_was_killed_twice_is_resumed_and_nothing_is_done_twice_or_lost(
    name: str, start: Start, album: Path, tmp_path: Path
) -> None:
    target = tmp_path / name
    with stopped_after(15, start("album", "-o", name), target, signal.SIGKILL):
        first = target.read_bytes()
    with target.open("ab") as file:
        file.write(b'"cut off in the mid')  # as a kill in the middle of a write leaves it
    before = lines_of(target)
    with stopped_after(before + 10, start("album", "-o", name, "--resume"), target, signal.SIGKILL):
        assert target.read_bytes().startswith(first[: first.rindex(b"\n") + 1])
    last = start("album", "-o", name, "--resume")
    _, said = last.communicate(timeout=80)
    assert last.returncode == 0, said
    assert b"150.png: a named pipe" in said
    found = paths_in(target)
    assert len(found) == IMAGES
    assert found == sorted(set(found), key=lambda path: path.rpartition("/")[2])


def test_ctrl_c_leaves_whole_lines_and_its_own_status(start: Start, album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("wb") as file:
        process = start("album", "--json", stdout=file.fileno())
        with stopped_after(10, process, target, signal.SIGINT):
            assert process.returncode == 130
    assert target.read_bytes().endswith(b"\n")
    assert 10 <= len(paths_in(target)) < IMAGES
    assert process.stderr is not None
    said = process.stderr.read()
    assert b"interrupted: " in said
    assert b"Traceback" not in said


def test_memory_does_not_grow_with_the_folder(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    (tmp_path / "file").write_bytes(b"no image")  # quickly done: it is about names and results
    for group in range(20):
        (folder / str(group)).mkdir(parents=True)
        for number in range(1000):
            (folder / str(group) / f"{number}.jpg").hardlink_to(tmp_path / "file")
    target = tmp_path / "out.jsonl"
    process = start("large", "-o", target.name)
    sizes: list[int] = []

    def is_over() -> bool:
        if process.poll() is None and lines_of(target) >= 500:
            sizes.append(psutil.Process(process.pid).memory_info().rss)
        return process.poll() is not None

    eventually(is_over, every=0.1)
    assert process.returncode == 1  # all of them failed
    assert lines_of(target) == 20_000
    assert max(sizes) - sizes[0] < 20e6
