"""Running a package manager: the command that downloads one package as data."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mien.errors import ModelUnavailable

TIMEOUT_SECONDS = 1800


def run_download(
    command: Sequence[str],
    package: str,
    *,
    tool: str,
    explain: Callable[[str], str],
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs `command`, in which `tool` downloads `package`.

    Raises ModelUnavailable when it fails or takes longer than half an hour: `explain` makes the message of what the
    tool wrote, and the tool's own words are a note, for tracebacks only, since they can name hosts and paths.
    """
    try:
        ran = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable(f"{tool} did not get {package} within {TIMEOUT_SECONDS} s; try again") from error
    if ran.returncode != 0:
        said = ran.stdout + ran.stderr
        failure = ModelUnavailable(explain(said))
        failure.add_note(said)
        raise failure
