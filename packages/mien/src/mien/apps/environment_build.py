"""Building an environment with uv, each command in a guarded process."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uv

from mien.apps.environment import SERVER_PYTHON, Environment, EnvironmentSpec
from mien.apps.mirrors import uv_environment
from mien.apps.process import GuardedProcess, ProcessLimits
from mien.apps.sdk_copy import copy_distributions, copyable, sdk_distributions
from mien.errors import EnvironmentFailed

MESSAGE_LINES = 12
MESSAGE_CHARS = 4000
SDK_NAMES = ("inferencesh",)
"""Other names by which requirements may refer to the SDK `infsh`."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildCommands:
    """Runs commands for one build."""

    staged: Path
    """The environment being built."""
    cwd: Path
    """The working directory: the app's files, if there are any."""
    root: Path
    """The directory of all environments; removed from output."""
    log: Log
    lock: int
    """The build's lock. Commands inherit it, so that it stays locked until the last of them has ended even if this
    process dies; otherwise another process could start building concurrently."""
    limits: ProcessLimits

    async def uv(self, arguments: list[str]) -> None:
        """Run uv. Raises EnvironmentFailed with its output."""
        await self.run([uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never"])

    async def run(self, command: list[str], *, check: bool = True) -> None:
        """Run a command and log every line of its output. With `check`, raises EnvironmentFailed if it fails."""
        process = await GuardedProcess.start(
            command, environment=_variables(), folder=self.cwd, limits=self.limits, merge=True, hold=[self.lock]
        )
        lines: list[str] = []
        try:
            async for raw in process.stdout:
                if line := self._shown(raw.decode(errors="replace").rstrip()):
                    lines.append(line)
                    self.log(line)
            ended = await process.wait()
        finally:
            process.kill()
            await process.wait()
        if check and not ended.ok:
            raise EnvironmentFailed(_failure(lines, ended.describe()))

    def _shown(self, line: str) -> str:
        """The line without paths of directories of this server."""
        line = line.replace(f"{self.staged}{os.sep}", "").replace(str(self.staged), "the environment")
        for folder in (self.cwd, self.root):
            line = line.replace(f"{folder}{os.sep}", "")
        return line


async def fill(commands: BuildCommands, spec: EnvironmentSpec, wheel: Path, constraints: Path | None) -> None:
    """Build the environment in `commands.staged` and install the kernel's `wheel`. Raises EnvironmentFailed."""
    commands.log(f"creating an environment with Python {spec.python or SERVER_PYTHON}")
    python = spec.python if spec.python not in ("", SERVER_PYTHON) else sys.executable
    venv = ["venv", "--quiet", "--relocatable", "--no-project", "--python", python, str(commands.staged)]
    await commands.uv(venv)
    environment = Environment("", commands.staged)
    distributions = sdk_distributions()
    if spec.bare and all(copyable(distribution) for distribution in distributions):
        commands.log("no requirements: copying the SDK and its dependencies from the server")
        await asyncio.to_thread(copy_distributions, distributions, environment.packages)
        await asyncio.to_thread(shutil.unpack_archive, wheel, environment.packages, "zip")
    else:
        await _install(commands, environment, spec, wheel, constraints)
    interpreter = str(environment.python)
    # Compiled now, since workers do not write bytecode. Unchecked: some packages ship files that do not compile.
    await commands.run([interpreter, "-m", "compileall", "-q", str(environment.packages)], check=False)
    await commands.run([interpreter, "-I", "-c", "import infsh._kernel.protocol"])


async def _install(
    commands: BuildCommands, environment: Environment, spec: EnvironmentSpec, wheel: Path, constraints: Path | None
) -> None:
    build = environment.folder / "build"
    build.mkdir()
    requirements = (spec.folder or build) / "requirements.txt"
    if spec.folder is None:
        requirements.write_text(spec.requirements)
    # Requirements may contain the SDK, by either name: override them, so that it is always this server's own.
    overrides = build / "overrides.txt"
    never = [f"{name} ; python_version < '0'" for name in SDK_NAMES]
    overrides.write_text("\n".join([f"infsh @ {wheel.as_uri()}", *never]) + "\n")
    command = ["pip", "install", "--python", str(environment.python), "--overrides", str(overrides), str(wheel)]
    if spec.requirements:
        command += ["--requirements", str(requirements)]
    if constraints is not None:
        command += ["--constraints", str(constraints)]
    await commands.uv(command)
    shutil.rmtree(build)


def _variables() -> dict[str, str]:
    """This process's environment variables, without secrets and without those that would redirect uv or Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIEN_", "PYTHON", "PIP_")) and name != "VIRTUAL_ENV"
    }
    return {"UV_PYTHON_DOWNLOADS": "never", **uv_environment(), **kept, "UV_NO_PROGRESS": "1"}


def _failure(lines: list[str], words: str) -> str:
    """An error message with uv's own output: from the start of its error, else the last lines."""
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith(("×", "error:"))]
    relevant = lines[starts[-1] :] if starts else lines[-MESSAGE_LINES:]
    said = "\n".join(relevant[:MESSAGE_LINES])[:MESSAGE_CHARS] or f"uv {words}"
    return f"the app's environment could not be built: {said}"
