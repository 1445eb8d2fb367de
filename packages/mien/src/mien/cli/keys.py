"""`mien keys …`: API keys of the server whose data lies in MIEN_DATA_DIR."""

from typing import Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from mien.cli.output import err, out
from mien.keys import FileKeyStore, KeyStore, Scope
from mien.settings import Settings

keys = typer.Typer(no_args_is_help=True)


def _store() -> KeyStore:
    return FileKeyStore(Settings().locations.data_dir)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[list[str], typer.Option(help="infer, admin; may be repeated.")] = ["infer"],  # noqa: B006 - typer copies
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    key, secret = _store().create(name, cast("list[Scope]", scope))
    err.print(f"key {key.id} for {name}, scopes: {', '.join(key.scopes)}. It is shown only now:", markup=False)
    out.print(secret, soft_wrap=True)


@keys.command("list")
def list_keys() -> None:
    """Show all keys, without their secrets."""
    table = Table("id", "name", "scopes", "created")
    for key in _store().all():
        table.add_row(key.id, escape(key.name), ", ".join(key.scopes), key.created)
    out.print(table)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The id that `mien keys list` shows.")]) -> None:
    """Make a key invalid, at once and for good."""
    key = _store().revoke(key_id)
    err.print(f"revoked {key.id} ({key.name})", markup=False)
