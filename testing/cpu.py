"""Which tests cost how much CPU, in their own process and in all that it starts: `pytest -p testing.cpu`.

Unlike seconds on a clock, seconds of CPU hardly depend on what else the machine does. Linux only. What a process used
is lost if its parent ends before it, or does not wait for it.
"""

import os
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

_PROPERTY = "seconds of CPU"
_SHOWN = 50
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)
"""Fields of /proc/PID/stat after the name: ppid; utime, stime, cutime, cstime."""


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Meter())


class _Meter:
    def __init__(self) -> None:
        self._descendants = _of_descendants()
        self._own = time.process_time()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """Its report has what all phases of the test took, and what was between the last test and this one."""
        try:
            return (yield)
        finally:
            item.user_properties.append((_PROPERTY, self._take()))

    def _take(self) -> float:
        """CPU of this process and its descendants since the last call, without that of measuring."""
        own, descendants = time.process_time(), _of_descendants()
        used = own - self._own + descendants - self._descendants
        self._own, self._descendants = time.process_time(), descendants
        return used

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        tests: defaultdict[str, float] = defaultdict(float)
        for reports in terminalreporter.stats.values():
            for report in reports:
                if isinstance(report, pytest.TestReport) and report.when == "teardown":
                    tests[report.nodeid] += _seconds(report)
        files: defaultdict[str, float] = defaultdict(float)
        for test, used in tests.items():
            files[test.partition("::")[0]] += used
        for what, seconds in (("files", files), ("tests", tests)):
            terminalreporter.section(f"CPU of {what}: {sum(seconds.values()):.0f} s")
            for name, used in sorted(seconds.items(), key=lambda pair: -pair[1])[:_SHOWN]:
                terminalreporter.write_line(f"{used:7.2f} s  {name}")


def _seconds(report: pytest.TestReport) -> float:
    return sum(used for name, used in report.user_properties if name == _PROPERTY and isinstance(used, float))


def _of_descendants() -> float:
    """CPU of all processes that this one started, those that ended included."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for process in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children[int(fields[_PARENT])].append(process)
        ticks[process] = sum(map(int, fields[_TIMES]))
    total, left = 0, children[os.getpid()]
    while left:
        process = left.pop()
        total += ticks[process]
        left += children[process]
    ended = os.times()
    return total / _TICKS_PER_SECOND + ended.children_user + ended.children_system
