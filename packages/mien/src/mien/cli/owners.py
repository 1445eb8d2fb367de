"""`mien owners …`: the quotas of the owners of API keys, on the server whose data is in MIEN_DATA_DIR."""

from typing import Annotated

import typer
from rich.table import Table

from mien.cli.output import err, out
from mien.errors import RequestError
from mien.keys import DEFAULT_OWNER, FileKeyStore
from mien.quotas import NAMES, FileOwnerStore, Limits, Overrides, combined, limits_of
from mien.settings import Settings

owners = typer.Typer(no_args_is_help=True)
NO_LIMIT = "none"
Given = Annotated[str | None, typer.Option(metavar="N|none", show_default=False)]


def _store() -> FileOwnerStore:
    return FileOwnerStore(Settings().locations.data_dir)


@owners.command("list")
def list_owners() -> None:
    """List the owners of keys and their quotas."""
    settings = Settings()
    store, keys = FileOwnerStore(settings.locations.data_dir), FileKeyStore(settings.locations.data_dir)
    own, defaults = store.all(), limits_of(settings.quotas)
    table = Table("owner", "keys", *(name.replace("_", " ") for name in NAMES))
    held = [key.owner for key in keys.all()]
    for owner in sorted({DEFAULT_OWNER, *held, *own}):
        table.add_row(owner, str(held.count(owner)), *_shown(combined(defaults, own.get(owner, Overrides()))))
    out.print(table)


@owners.command("set")
def set_quotas(
    owner: Annotated[str, typer.Argument(help="As in `mien keys create --owner`.")],
    queued: Given = None,
    running: Given = None,
    file_bytes: Given = None,
    images: Given = None,
    requests: Given = None,
) -> None:
    """Set quotas of one owner, in place of the settings MIEN_OWNER_*; `none` lifts one. They apply at once."""
    given = {
        "queued": queued, "running": running, "file_bytes": file_bytes, "images": images, "requests": requests,
    }  # fmt: skip
    changes = {name: _number(name, text) for name, text in given.items() if text is not None}
    if not changes:
        raise RequestError(f"name a quota to set: {', '.join('--' + name.replace('_', '-') for name in NAMES)}")
    _store().set(owner, changes)
    err.print(f"set for {owner}: {', '.join(f'{name} {value}' for name, value in changes.items())}", markup=False)


@owners.command()
def reset(owner: Annotated[str, typer.Argument(help="An owner with quotas of its own.")]) -> None:
    """Give an owner the quotas of the settings again."""
    _store().reset(owner)
    err.print(f"{owner} has the quotas of the settings", markup=False)


def _number(name: str, text: str) -> int | None:
    if text.strip().lower() == NO_LIMIT:
        return None
    if not text.isdecimal() or len(text) > 15 or (int(text) == 0 and name in ("running", "requests")):
        raise RequestError(f"--{name.replace('_', '-')}: expected a number or `{NO_LIMIT}`; got {text[:40]!r}")
    return int(text)


def _shown(limits: Limits) -> list[str]:
    return ["-" if (value := getattr(limits, name)) is None else str(value) for name in NAMES]
