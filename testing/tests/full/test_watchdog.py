"""A test that nothing can interrupt costs one process of pytest-xdist, and that process's children."""

from pathlib import Path

from testing.pytest_run import run_pytest

FATAL = """
def test_cannot_be_interrupted():  # as in a call of C that never returns
    pathlib.Path("server").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)

def test_after(): pass
"""


def test_what_no_exception_ends_costs_one_process_and_its_children(tmp_path: Path) -> None:
    printed = run_pytest(tmp_path, FATAL, "-n", "1", "-o", "watchdog=3")
    assert "crashed while running 'test_some.py::test_cannot_be_interrupted'" in printed
    assert "1 failed, 2 passed" in printed
    assert "in test_cannot_be_interrupted" in printed, "the stack of what hung"
    left = Path("/proc", (tmp_path / "server").read_text(), "cmdline")
    assert not left.exists() or b"sleep" not in left.read_bytes()
