"""The commands of CONTRIBUTING.md are run, or as much of them as can be in a test."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from packages.mien.tests.unit.test_contributing import PYTHON, ROOT, commands


def output_of(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", commands(f"{PYTHON} -m pytest "))
def test_every_choice_of_tests_chooses_some(command: str) -> None:
    arguments = shlex.split(command)[1:]
    assert re.search(r"test_\w+", output_of([sys.executable, *arguments, "--collect-only", "-q"]))


@pytest.mark.parametrize("command", commands(f"{PYTHON} -m packages."))
def test_every_tool_is_there(command: str) -> None:
    assert "usage:" in output_of([sys.executable, *shlex.split(command)[1:], "--help"])


def test_a_server_that_is_debugged_tells_where_its_threads_are(
    serve: Callable[..., Any], light: dict[str, str]
) -> None:
    (command,) = commands("MIEN_LOG_LEVEL=")
    variables = dict(word.split("=", 1) for word in shlex.split(command) if re.match(r"[A-Z_]+=", word))
    settings = {
        name.removeprefix("MIEN_").lower(): value for name, value in variables.items() if name.startswith("MIEN_")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONFAULTHANDLER", variables["PYTHONFAULTHANDLER"])
        server = serve(**(light | settings))
    for curl in commands("curl "):
        assert server.client.get(curl.rpartition("8080")[2]).status_code == 200
    os.kill(server.process.pid, signal.SIGABRT)
    assert server.process.wait(10) == -signal.SIGABRT
    log = re.sub(r"\x1b\[[0-9;]*m", "", server.log)
    assert "[info " in log
    assert len(re.findall(r"^(?:Current thread|Thread) 0x.*most recent call first", log, re.MULTILINE)) >= 2
