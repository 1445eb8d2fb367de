"""A test that hangs, leaves a thread or warns in its teardown is named and fails alone; the others run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIGURATION = f"""
[pytest]
addopts = -p testing.limits -p no:cacheprovider -q
pythonpath = {ROOT}
filterwarnings = error
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""
HEAD = """
import asyncio, os, pathlib, signal, subprocess, threading, time, warnings
import pytest

soon = pytest.mark.limit(0.5)

def test_before(): pass
"""
CULPRITS = """
@soon
def test_sleeps(): time.sleep(60)

@soon
def test_waits_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

@soon
async def test_awaits(): await asyncio.sleep(60)

@soon
def test_catches_the_first_alarm():
    try: time.sleep(60)
    except BaseException: time.sleep(60)

@pytest.fixture
def slow_setup(): time.sleep(60)

@soon
def test_hangs_in_its_setup(slow_setup): pass

@pytest.fixture
def slow_teardown():
    yield
    time.sleep(60)

@soon
def test_hangs_in_its_teardown(slow_teardown): pass

@pytest.fixture
def warning():
    yield
    warnings.warn("left behind")

def test_warns_in_its_teardown(warning): pass

def test_leaves_a_thread_that_fails():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

class Resource:
    def __del__(self): raise RuntimeError("in a destructor")

def test_fails_where_nobody_can_catch_it(): Resource()

def test_after(): pass
"""
NAMES = re.findall(r"def test_(\w+)", CULPRITS)[:-1]

FATAL = """
def test_cannot_be_interrupted():  # as in a call of C that never returns
    pathlib.Path("server").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)

def test_after(): pass
"""


def run(folder: Path, tests: str, *options: str) -> str:
    """What pytest prints about these tests."""
    (folder / "pytest.ini").write_text(CONFIGURATION)
    (folder / "test_some.py").write_text(HEAD + tests)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run(tmp_path_factory.mktemp("culprits"), CULPRITS, "-o", "limit=30")


@pytest.mark.parametrize("name", NAMES)
def test_the_culprit_is_named(printed: str, name: str) -> None:
    assert re.search(rf"(FAILED|ERROR) test_some\.py::test_{name}\b", printed), printed


def test_the_others_run(printed: str) -> None:
    in_teardown = 2  # their call has passed before
    assert f"{len(NAMES) - 3} failed, {2 + in_teardown} passed, 3 errors" in printed


def test_a_hanging_test_s_stack_is_shown(printed: str) -> None:
    assert "test_sleeps: call was not over after 0.5 s" in printed
    assert re.search(r'File ".*test_some\.py", line \d+ in test_sleeps', printed)


def test_what_no_exception_ends_costs_one_process_and_its_children(tmp_path: Path) -> None:
    printed = run(tmp_path, FATAL, "-n", "1", "-o", "watchdog=3")
    assert "crashed while running 'test_some.py::test_cannot_be_interrupted'" in printed
    assert "1 failed, 2 passed" in printed
    assert "in test_cannot_be_interrupted" in printed, "the stack of what hung"
    left = Path("/proc", (tmp_path / "server").read_text(), "cmdline")
    assert not left.exists() or b"sleep" not in left.read_bytes()
