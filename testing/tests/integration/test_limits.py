"""A test that hangs, leaves a thread or warns in its teardown is named and fails alone; the others run."""

import re

import pytest

from testing.pytest_run import run_pytest

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


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_pytest(tmp_path_factory.mktemp("culprits"), CULPRITS, "-o", "limit=30")


@pytest.mark.parametrize("name", NAMES)
def test_the_culprit_is_named(printed: str, name: str) -> None:
    assert re.search(rf"(FAILED|ERROR) test_some\.py::test_{name}\b", printed), printed


def test_the_others_run(printed: str) -> None:
    in_teardown = 2  # their call has passed before
    assert f"{len(NAMES) - 3} failed, {2 + in_teardown} passed, 3 errors" in printed


def test_a_hanging_test_s_stack_is_shown(printed: str) -> None:
    assert "test_sleeps: call was not over after 0.5 s" in printed
    assert re.search(r'File ".*test_some\.py", line \d+ in test_sleeps', printed)
