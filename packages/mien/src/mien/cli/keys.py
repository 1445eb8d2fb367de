"""`mien keys …`: API keys of the server whose data is in MIEN_DATA_DIR."""

from typing import Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from mien.cli.output import err, out, print_table
from mien.keys import DEFAULT_OWNER, FileKeyStore, KeyStore, Scope
from mien.settings import Settings

keys = typer.Typer(no_args_is_help=True)


def _store() -> KeyStore:
    return FileKeyStore(Settings().locations.data_dir)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scope: Annotated[list[str], typer.Option(help="infer or admin. May be repeated.")] = ["infer"],  # noqa: B006 - typer copies
    owner: Annotated[
        str, typer.Option(help="Whose tasks and files the key makes and sees. Keys may share an owner.")
    ] = DEFAULT_OWNER,
) -> None:
    """Create a key and print it, once: only its hash is stored."""
    key, secret = _store().create(name, cast("list[Scope]", scope), owner)
    whose = "" if key.owner == DEFAULT_OWNER else f", owner: {key.owner}"
    err.print(f"key {key.id} for {name}, scopes: {', '.join(key.scopes)}{whose}. It is shown only once:", markup=False)
    out.print(secret, soft_wrap=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys, without their secrets."""
    table = Table("id", "name", "owner", "scopes", "created")
    for key in _store().all():
        table.add_row(key.id, escape(key.name), key.owner, ", ".join(key.scopes), key.created)
    print_table(table, "no API keys, so none is needed on loopback; `mien keys create NAME` makes one")


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The id shown by `mien keys list`.")]) -> None:
    """Revoke a key, immediately and permanently."""
    key = _store().revoke(key_id)
    err.print(f"revoked {key.id} ({key.name})", markup=False)
