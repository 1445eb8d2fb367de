"""The commands of CONTRIBUTING.md are real: what they name exists; test_contributing_commands.py runs them."""

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[4]
PYTHON = ".venv/bin/python"


def commands(beginning: str = "") -> list[str]:
    """The commands of all blocks that begin so, without their comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    found = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [command for command in found if command.startswith(beginning)]


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    kinds = ("make ", f"{PYTHON} -m pytest ", f"{PYTHON} -m packages.", "MIEN_LOG_LEVEL=", "curl ")
    assert [command for command in commands() if not command.startswith(kinds)] == []


def test_every_target_is_one_of_make_and_none_is_left_out() -> None:
    told = {shlex.split(command)[1] for command in commands("make ")}
    done = subprocess.run(["make", "-n", *told], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) - {"demo", "serve", "clean"} == told


def test_every_path_of_a_command_exists() -> None:
    paths = [word for command in commands() for word in shlex.split(command) if word.startswith("packages/")]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
