"""`infsh run`: sets up an app, runs it once, and unloads it."""

import json
import sys
from pathlib import Path
from typing import Any

from infsh._cli.terminal import TerminalSink, app_output_on_stderr, fields, load, plain
from infsh._errors import AppInvalid
from infsh._kernel.runner import AppRunner


async def run(path: Path, inputs: list[str], files: list[str], setup: list[str], function: str | None) -> int:
    """Prints the output as JSON on stdout, partial ones on stderr. Raises InfshError and AppFailed."""
    inputs = [f"@{Path(item[1:]).absolute()}" if item.startswith("@") else item for item in inputs]
    file_values = dict(_file(item) for item in files)
    with app_output_on_stderr() as stdout:
        loaded = load(path)
        schemas = loaded.schemas()
        schema = schemas["functions"].get(function or loaded.default_function, {}).get("input_schema", {})
        value = fields(inputs, "input", schema) | file_values
        parameters = fields(setup, "setup", schemas["setup_schema"] or {})
        runner = AppRunner(loaded, TerminalSink())
        await runner.setup(parameters, {})

        def partial(output: Any) -> None:
            sys.stderr.write(f"… {json.dumps(plain(output, runner.marker), ensure_ascii=False)}\n")

        output = await runner.run("run", value, partial, function=function)
        await runner.unload()
        json.dump(plain(output, runner.marker), stdout, indent=2, ensure_ascii=False)
        stdout.write("\n")
    return 0


def _file(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise AppInvalid(f"--file {pair} is not KEY=PATH")
    if "://" in value or value.startswith("data:"):
        return key, value
    path = Path(value).absolute()
    if not path.is_file():
        raise AppInvalid(f"--file {pair}: no such file: {path}")
    return key, str(path)
