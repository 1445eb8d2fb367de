"""A test that hangs is named, fails alone, and the others run.

Two limits. The inner one is an alarm around each phase of a test (setup, call, teardown). It is raised inside what
pytest records as that phase, so it can only become a failure of that test; an alarm around the whole test, as
pytest-timeout sets it, may go off in a hook between two phases, and an exception there ends the run. The alarm
repeats, because an exception raised in a destructor or a callback of C code is lost.

The outer limit is for what no exception can end, such as a call in C that never returns: a watchdog thread of C ends
the process. pytest-xdist reports that as the failure of this test and goes on with another process.
"""

import faulthandler
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil
import pytest

_TERMINAL: pytest.StashKey[int] = pytest.StashKey()

REPEAT = 5.0
"""Seconds between alarms of a phase that does not end."""


class Phase:
    """The alarm of one phase."""

    def __init__(self, item: pytest.Item, name: str, limit: float) -> None:
        self.item, self.name, self.limit = item, name, limit
        self.told = False

    def went_off(self, _number: int, _frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if not self.told:
            self.told = True
            self.item.add_report_section(self.name, "threads", _stacks())
        pytest.fail(f"{self.item.nodeid}: {self.name} was not over after {self.limit:g} s")

    @contextmanager
    def set(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self.went_off)
        signal.setitimer(signal.ITIMER_REAL, self.limit, min(self.limit, REPEAT))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _stacks() -> str:
    """What every thread is at."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read()


def _limit_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("limit")
    return float(marker.args[0] if marker else item.config.getini("limit"))


def _watchdog_of(item: pytest.Item) -> float:
    """Seconds after which the process is ended: each of the three phases may use its limit up."""
    return float(item.config.getini("watchdog")) or 3 * _limit_of(item) + 30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("limit", "seconds that each of setup, call and teardown of a test may take", default="60")
    parser.addini("watchdog", "seconds after which a test's process is ended; 0: 3 x limit + 30", default="0")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "limit(seconds): another limit for each phase of this test")
    terminal = config.stash[_TERMINAL] = os.dup(2)  # before pytest's capture takes stderr
    config.add_cleanup(lambda: os.close(terminal))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """The watchdog. It writes to the terminal: what is captured is lost with the process."""
    faulthandler.dump_traceback_later(_watchdog_of(item), exit=True, file=item.config.stash[_TERMINAL])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _phase(item: pytest.Item, name: str) -> Generator[None, Any, Any]:
    if (sys.gettrace() is not None and not _is_coverage()) or threading.current_thread() is not threading.main_thread():
        return (yield)  # someone is debugging
    with Phase(item, name, _limit_of(item)).set():
        return (yield)


def _is_coverage() -> bool:
    return "coverage" in type(sys.gettrace()).__module__


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _phase(item, "setup"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _phase(item, "call"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _phase(item, "teardown"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """A process that was ended could not stop its servers: they are found by what they inherited from it."""
    if error:
        _end_those_of(node.gateway.id, node.workerinput["testrunuid"])


def _end_those_of(worker: str, run: str) -> None:
    wanted = {"PYTEST_XDIST_WORKER": worker, "PYTEST_XDIST_TESTRUNUID": run}
    for process in psutil.process_iter():
        try:
            if wanted.items() <= process.environ().items():
                process.kill()
        except psutil.Error:
            continue  # gone, or another user's
