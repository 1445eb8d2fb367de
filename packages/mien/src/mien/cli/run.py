"""`mien run`: runs an app as a task on a running server."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli.client import DEFAULT_URL, ApiKey, Url
from mien.cli.output import Output, out, show
from mien.cli.tasks import show_output, task_client, task_table
from mien.errors import RequestError


def run(
    app: Annotated[str, typer.Argument(help="The app: [namespace/]name[@version].")],
    given: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="KEY=VALUE", help="An input field, as JSON or text. May be repeated."),
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="KEY=PATH", help="An input field that is a local file. May be repeated.")
    ] = None,
    setup: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setup field. May be repeated.")
    ] = None,
    function: Annotated[str | None, typer.Option(help="Function of the app.")] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the app.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the output whenever it changes.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the task's id and exit.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    output: Output = "table",
) -> None:
    """Run an app on a running server: progress on stderr, the output on stdout. Exit code 1 if it fails."""
    params: dict[str, Any] = {"app": app, "input": fields("--input", given or []) | files(file or [])}
    if setup:
        params["setup"] = fields("--setup", setup)
    params |= {name: value for name, value in {"function": function, "variant": variant}.items() if value is not None}
    with task_client(url, api_key) as client:
        if no_wait:
            task = client.run(params, wait=False, upload_paths=False)
            show(task, output, task_table) if output != "table" else out.print(task["id"])
        elif stream:
            last = None
            for update in client.run(params, stream=True, progress=True, upload_paths=False):
                if update.get("output") not in (None, last):
                    show_output(update, output)
                last = update.get("output", last)
        else:
            show_output(client.run(params, progress=True, upload_paths=False), output)


def fields(option: str, pairs: list[str]) -> dict[str, Any]:
    """The fields of `key=value` arguments; `a.b=1` sets a nested field, and values that are not JSON are text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, value = _split(option, pair)
        try:
            _put(found, key, json.loads(value), option)
        except ValueError:
            _put(found, key, value, option)
    return found


def files(pairs: list[str]) -> dict[str, Any]:
    """The fields of `key=path` arguments; a repeated key becomes a list."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, value = _split("--file", pair)
        path = Path(value)
        with suppress(RuntimeError):  # no home: the path is told as it is
            path = path.expanduser()
        if not path.is_file():
            raise RequestError(f"--file {pair}: no such file")
        known = found.get(key)
        found[key] = path if known is None else [*(known if isinstance(known, list) else [known]), path]
    return found


def _split(option: str, pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise RequestError(f"{option} {pair!r}: expected KEY=VALUE")
    return key, value


def _put(found: dict[str, Any], key: str, value: Any, option: str) -> None:
    *outer, last = key.split(".")
    for name in outer:
        found = found.setdefault(name, {})
        if not isinstance(found, dict):
            raise RequestError(f"{option} {key}: {name} already has a value")
    found[last] = value
