"""`infsh test`: checks that a folder is an app, and that it runs."""

import json
from pathlib import Path
from typing import Any

from infsh._cli.terminal import TerminalSink, app_output_on_stderr, load
from infsh._errors import AppInvalid
from infsh._kernel.loader import LoadedApp
from infsh._kernel.runner import AppRunner
from infsh._manifest import read_manifest


async def check(path: Path) -> int:
    """Prints what was checked. Raises InfshError and AppFailed."""
    path = path.resolve()
    with app_output_on_stderr() as stdout:
        if path.is_dir():
            manifest = read_manifest(path)
            stdout.write(f"ok  inf.yml: {manifest.namespace + '/' if manifest.namespace else ''}{manifest.name}\n")
        loaded = load(path)
        loaded.schemas()
        stdout.write(f"ok  {loaded.app_class.__name__}: {', '.join(loaded.functions)}\n")
        inputs = _inputs(loaded)
        if not inputs:
            stdout.write("    no input.json: nothing was run\n")
            return 0
        runner = AppRunner(loaded, TerminalSink())
        await runner.setup(None, {})
        stdout.write("ok  setup\n")
        for function, value in inputs.items():
            await runner.run(function, value, lambda _: None, function=function)
            stdout.write(f"ok  {function}\n")
        await runner.unload()
        stdout.write("ok  unload\n")
    return 0


def _inputs(loaded: LoadedApp) -> dict[str, Any]:
    """Sample inputs by function: `input.json` for the default one, `input.FUNCTION.json` for any."""
    named = {function: loaded.folder / f"input.{function}.json" for function in loaded.functions}
    named.setdefault(loaded.default_function, Path())
    if not named[loaded.default_function].is_file():
        named[loaded.default_function] = loaded.folder / "input.json"
    return {function: _read(file) for function, file in named.items() if file.is_file()}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AppInvalid(f"{file.name} is not JSON: {error}") from error
