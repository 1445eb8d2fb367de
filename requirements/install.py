"""Installs pinned packages and folders of this workspace beside this Python: `install.py REQUIREMENTS [-e FOLDER]…`.

By uv, which takes 3 s where pip takes 25, from where pip is configured to get packages: uv itself looks at no pip.conf.
Prints progress on a terminal, and errors.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

MIRRORS = Path(__file__).parent.parent / "packages" / "mien" / "src" / "mien" / "apps" / "mirrors.py"


def install(requirements: str, folders: list[str]) -> int:
    """uv's exit status."""
    environment = {**os.environ, **runpy.run_path(str(MIRRORS))["uv_environment"]()}
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--python", sys.executable]
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    steps = [[*quiet, "--compile-bytecode", "--require-hashes", "-r", requirements]]
    if folders:
        steps.append(["--quiet", "--no-deps", "--no-build-isolation", *folders])
    for step in steps:
        status = subprocess.run([*uv, *step], env=environment, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(install(sys.argv[1], sys.argv[2:]))
