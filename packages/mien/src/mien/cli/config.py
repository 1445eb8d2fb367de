"""`mien config …`: what the settings of a server started here would be, and whether they are valid."""

import os
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table

from mien.cli.output import err, out, write_json
from mien.config.fetch_headers import MASK
from mien.config.file import NAME
from mien.config.names import CONFIG_VARIABLE
from mien.config.original import original_variables
from mien.errors import InvalidSettings
from mien.places import place_problems
from mien.settings import Provenance, Settings, Variables, sections, unknown_names

config = typer.Typer(no_args_is_help=True)
_SECRET = frozenset({"fetch_headers"})
"""Settings whose values are secret though their types do not say so."""


def use_file(path: Path | None) -> Path | None:
    """Read the settings of this process, and of those that it starts, from the file."""
    if path is not None:
        os.environ[CONFIG_VARIABLE] = str(path.absolute())
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", callback=use_file, help=f"The configuration file. Default: that in {CONFIG_VARIABLE}."),
]


@config.command()
def show(
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, by section.")] = False,
) -> None:
    """Show every setting with its value and where that comes from. Secrets are masked."""
    settings, provenance = Settings(), Provenance({})
    rows = _rows(settings, provenance)
    if as_json:
        file = None if provenance.file is None else str(provenance.file)
        write_json({"file": file, "settings": {section or "general": values for section, values in rows.items()}})
        return
    table = Table("setting", "value", "from")
    for section, values in rows.items():
        table.add_section()
        for name, row in values.items():
            shown = f"{section}.{name}" if section else name
            table.add_row(shown, escape(_text(row["value"])), escape(row["from"]))
    out.print(table)


@config.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="The configuration file.", callback=use_file)] = None,
    config: ConfigFile = None,
) -> None:
    """Check the configuration file and the variables. Exit code 1, and a line for each problem, if one is not valid."""
    settings, provenance = Settings(), Provenance({})
    if problems := place_problems(settings, provenance):
        raise InvalidSettings(*problems)
    for words in [*unknown_names(), *unread()]:
        err.print(f"[yellow]warning[/]: {escape(words)}", soft_wrap=True)
    preset = Variables().preset
    sources = [provenance.of(name, preset) for fields in sections().values() for name in fields]
    said = sum(source != "default" for source in sources)
    read = "no configuration file" if provenance.file is None else str(provenance.file)
    out.print(f"ok: {said} settings differ from their defaults; {read}", soft_wrap=True, markup=False)


def unread() -> list[str]:
    """A sentence for each thing that looks as if it should be read and is not: a file in the current folder, and
    variables of the original server."""
    found = original_variables(os.environ)
    if not os.environ.get(CONFIG_VARIABLE) and Path(NAME).is_file():
        found.append(f"{Path(NAME).absolute()} is not read unless --config or {CONFIG_VARIABLE} names it")
    return found


def _rows(settings: Settings, provenance: Provenance) -> dict[str, dict[str, dict[str, Any]]]:
    """By section and name: the value, as JSON has it, and where it comes from."""
    general = Variables()
    groups = {"": general, **{name: getattr(settings, name) for name in get_type_hints(Settings)}}
    return {
        section: {
            name: {
                "value": _plain(getattr(groups[section], name), secret=name in _SECRET),
                "from": provenance.of(name, general.preset),
            }
            for name in fields
        }
        for section, fields in sections().items()
    }


def _plain(value: Any, *, secret: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, secret=secret) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item, secret=secret) for item in value]
    if secret or isinstance(value, SecretStr):
        return MASK
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    return str(value)
