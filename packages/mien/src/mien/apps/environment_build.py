"""Filling an environment: uv makes it and installs into it, each command in a guarded process."""

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
"""What requirements may call our SDK, besides `infsh`."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildCommands:
    """Runs the commands of one build."""

    staged: Path
    """The environment being built."""
    cwd: Path
    """The app's files, where there are any."""
    root: Path
    """The folder of all environments: shortened in what is shown."""
    log: Log
    lock: int
    """The build's lock: each command inherits it, so it stays taken until the last of them has ended, also if this
    process dies. Else another process could build beside them."""
    limits: ProcessLimits

    async def uv(self, arguments: list[str]) -> None:
        """Raises EnvironmentFailed with what uv said."""
        await self.run([uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never"])

    async def run(self, command: list[str], *, check: bool = True) -> None:
        """Run to the end, every line into the log. With `check`, raises EnvironmentFailed if it failed."""
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
            raise EnvironmentFailed(_failure(lines, ended.words()))

    def _shown(self, line: str) -> str:
        """The line without the paths of this server's folders."""
        line = line.replace(f"{self.staged}{os.sep}", "").replace(str(self.staged), "the environment")
        for folder in (self.cwd, self.root):
            line = line.replace(f"{folder}{os.sep}", "")
        return line


async def fill(commands: BuildCommands, spec: EnvironmentSpec, wheel: Path, constraints: Path | None) -> None:
    """Make the environment in `commands.staged`, with the kernel's `wheel` in it. Raises EnvironmentFailed."""
    commands.log(f"making an environment with Python {spec.python or SERVER_PYTHON}")
    python = spec.python if spec.python not in ("", SERVER_PYTHON) else sys.executable
    venv = ["venv", "--quiet", "--relocatable", "--no-project", "--python", python, str(commands.staged)]
    await commands.uv(venv)
    environment = Environment("", commands.staged)
    distributions = sdk_distributions()
    if spec.bare and all(copyable(distribution) for distribution in distributions):
        commands.log("no requirements: copying the SDK and what it needs from the server")
        await asyncio.to_thread(copy_distributions, distributions, environment.packages)
        await asyncio.to_thread(shutil.unpack_archive, wheel, environment.packages, "zip")
    else:
        await _install(commands, environment, spec, wheel, constraints)
    interpreter = str(environment.python)
    # Compiled now, since workers must not write into it. Unchecked: some packages ship files that do not compile.
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
    # Requirements may name the SDK, by either of its names: it is always this server's own.
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
    """This process's variables without its secrets, and without what would make uv or Python look elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIEN_", "PYTHON", "PIP_")) and name != "VIRTUAL_ENV"
    }
    return {"UV_PYTHON_DOWNLOADS": "never", **uv_environment(), **kept, "UV_NO_PROGRESS": "1"}


def _failure(lines: list[str], words: str) -> str:
    """A message with the resolver's or builder's own output: from the start of the error, else the last lines."""
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith(("×", "error:"))]
    relevant = lines[starts[-1] :] if starts else lines[-MESSAGE_LINES:]
    said = "\n".join(relevant[:MESSAGE_LINES])[:MESSAGE_CHARS] or f"uv {words}"
    return f"the app's environment could not be made: {said}"
