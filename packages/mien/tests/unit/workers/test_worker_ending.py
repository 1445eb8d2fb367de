"""How a worker's end is described, and whether it counts as a crash."""

import pytest

from infsh._kernel.protocol import Fatal
from mien.apps.process import Exit, ProcessLimits
from mien.workers.ending import how_it_ended, start_error

LIMITS = ProcessLimits(1024**3, 10)
CRASHED = Fatal("the app's process died", "crashed", exit_code=-11)


@pytest.mark.parametrize(("ended", "fatal", "stop_requested", "reason", "kind", "expected"), [
    (Exit(3), None, False, "exited with status 3; its last line: boom", "exited", False),
    (Exit(-9), None, False, "killed by SIGKILL", "signal", False),
    (Exit(-11), CRASHED, False, "killed by SIGSEGV", "signal", False),
    (Exit(-9, "memory", 0, LIMITS), None, False, "ran out of memory", "memory", False),
    (Exit(-9, "memory", 0, LIMITS), None, True, "ran out of memory", "memory", False),
    (Exit(-9, "processes", 0, LIMITS), None, False, "more than 10 processes", "processes", False),
    (Exit(-9, "requested"), None, True, "was stopped", "protocol", True),
    (Exit(0), None, True, "was stopped", "exited", True),
    (Exit(-9, "requested"), None, False, "closed its connection", "protocol", False),
    (Exit(1), Fatal("no message", "protocol"), False, "no message", "protocol", False),
])  # fmt: skip
def test_how_it_ended(
    ended: Exit, fatal: Fatal | None, stop_requested: bool, reason: str, kind: str, expected: bool
) -> None:
    gone = how_it_ended(ended, fatal, ["first", "boom", " "], stop_requested=stop_requested)
    assert reason in gone.reason
    assert gone.kind == kind
    assert gone.stop_requested is expected


def test_a_failed_import_is_the_apps_error_with_its_traceback() -> None:
    error = start_error(Fatal("no module named x", "load", traceback="Traceback …"))
    assert error is not None
    assert (error.message, error.kind, error.traceback) == ("no module named x", "load", "Traceback …")


@pytest.mark.parametrize("fatal", [None, CRASHED, Fatal("no message", "protocol")])
def test_other_ends_are_not_errors_of_the_app(fatal: Fatal | None) -> None:
    assert start_error(fatal) is None
