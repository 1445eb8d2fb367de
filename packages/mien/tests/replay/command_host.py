"""Runs `mien` commands one after another in this one process: a Python start for each would take most of a replay.

Reads one JSON object a line from stdin: `{"arguments": […], "environment": {…}, "folder": …}`; answers each with one
line: `{"exit": …, "stdout": …, "stderr": …}`. Finds the command as a shell does, by the installed entry point's name.
"""

import importlib.metadata
import io
import json
import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import Any


def main() -> None:
    """Serve commands until stdin ends."""
    answers = sys.stdout
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="mien")
    command = entry.load()
    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        answers.write(json.dumps(run(command, asked["arguments"])) + "\n")
        answers.flush()


def run(command: Any, arguments: list[str]) -> dict[str, Any]:
    """One command to its end."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    sys.argv = ["mien", *arguments]
    code: Any = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command()
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # noqa: BLE001 - a shell would show it, too, and go on
            traceback.print_exc()
            code = 1
    said = (stream.buffer.getvalue().decode() for stream in (out, err))
    return {"exit": code, **dict(zip(("stdout", "stderr"), said, strict=True))}


if __name__ == "__main__":
    main()
