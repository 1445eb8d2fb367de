"""Where and how commands write: results to stdout as a table, JSON or YAML, everything else to stderr."""

import os
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import orjson
import typer
import yaml
from rich.console import Console, ConsoleDimensions
from rich.table import Table

OUTPUTS = ("table", "json", "yaml")
PIPE_COLUMNS = 500


class _Console(Console):
    """In a pipe or a file, lines stay whole: programs read them, and rich would fold them at 80 columns."""

    @property  # type: ignore[misc]  # rich's can be set, which nobody does here
    def size(self) -> ConsoleDimensions:
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(PIPE_COLUMNS, 25)


out = _Console(highlight=False, emoji=False)
err = _Console(stderr=True, highlight=False, emoji=False)


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


def print_table(table: Table, empty: str) -> None:
    """Print the table on stdout; if it has no rows, the words `empty` on stderr instead."""
    if table.row_count:
        out.print(table)
    else:
        err.print(empty, markup=False, soft_wrap=True)


def write_json(value: Any) -> None:
    """Print one JSON document on a line of its own."""
    out.print(orjson.dumps(value).decode(), soft_wrap=True, markup=False)


def write_yaml(value: Any) -> None:
    """Print one YAML document."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, explicit_start=True)
    out.print(text, end="", soft_wrap=True, markup=False)
