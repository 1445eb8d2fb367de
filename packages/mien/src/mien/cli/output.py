"""Where and how commands write: results to stdout as a table, JSON or YAML, everything else to stderr."""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import orjson
import typer
import yaml
from rich.console import Console
from rich.table import Table

OUTPUTS = ("table", "json", "yaml")
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def _known_output(value: str) -> str:
    if value not in OUTPUTS:
        raise typer.BadParameter(f"expected one of {', '.join(OUTPUTS)}")
    return value


Output: TypeAlias = Annotated[str, typer.Option(callback=_known_output, help="Format: table, json or yaml.")]


def show(value: Any, output: str, table: Callable[[Any], Table | str]) -> None:
    """Print the value in the selected format."""
    if output == "json":
        write_json(value)
    elif output == "yaml":
        write_yaml(value)
    else:
        shown = table(value)
        out.print(shown, markup=False, soft_wrap=isinstance(shown, str))


def write_json(value: Any) -> None:
    """Print one JSON document on a line of its own."""
    out.print(orjson.dumps(value).decode(), soft_wrap=True, markup=False)


def write_yaml(value: Any) -> None:
    """Print one YAML document."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, explicit_start=True)
    out.print(text, end="", soft_wrap=True, markup=False)
