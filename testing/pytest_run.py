"""Runs pytest on a few tests in a process of its own, under the limits of this suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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


def run_pytest(folder: Path, tests: str, *options: str) -> str:
    """What pytest prints about these tests, of which some must fail."""
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
    printed = done.stdout + done.stderr
    if done.returncode != 1 or "INTERNALERROR" in printed:
        pytest.fail(printed)
    return printed
