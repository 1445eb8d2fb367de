"""Every snippet of the documents about apps, executed in order in one directory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infsh

ROOT = Path(__file__).parents[5]
SNIPPET = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+/\S+)\n")


@pytest.mark.parametrize("document", ["docs/apps.md", "packages/infsh/README.md"])
def test_every_snippet_runs(document, tmp_path):
    for language, code in SNIPPET.findall((ROOT / document).read_text()):
        named = FILE.match(code)
        if named:
            path = tmp_path / named[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(code)
        elif language == "python":
            _run([sys.executable, "-W", "error", "-c", code], tmp_path)
        else:
            commands = "".join(line for line in code.splitlines(True) if not line.startswith("pip install"))
            _run(["bash", "-euo", "pipefail", "-c", commands], tmp_path)


def test_the_readme_lists_everything_public():
    readme = (ROOT / "packages/infsh/README.md").read_text()
    assert [name for name in infsh.__all__ if f"`{name}`" not in readme and name != "__version__"] == []


def _run(command: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
