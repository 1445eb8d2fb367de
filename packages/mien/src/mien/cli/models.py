"""`mien models …`: list, download and verify model files; load and unload those of a running server."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from mien.cli.client import DEFAULT_URL, ApiKey, RemoteModels, Url
from mien.cli.output import Output, err, out, show
from mien.cli.pulling import RichProgress
from mien.errors import ModelError
from mien.settings import Settings
from mien.zoo.manifest import Manifest, Source
from mien.zoo.zoo import Zoo

models = typer.Typer(no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(metavar="NAME|SET…", help="Models or sets of models.")]


@models.command("list")
def list_models() -> None:
    """List all models and sets, and which of them are on this machine."""
    zoo = _zoo()
    table = Table(box=None)
    table.add_column("model", no_wrap=True)
    for title in ("task", "dim", "licence", "from", "sets", "here"):
        table.add_column(title, no_wrap=title != "sets")
    for manifest in zoo.manifests.values():
        table.add_row(
            manifest.name,
            manifest.task.replace("_", " "),
            str(manifest.embedding_dim or ""),
            "[yellow]research[/]" if manifest.non_commercial else escape(manifest.licence),
            manifest.source.kind,
            " ".join(manifest.sets),
            _state(zoo, manifest),
        )
    out.print(table)


@models.command()
def pull(
    names: Names,
    accept_non_commercial: Annotated[
        bool, typer.Option("--accept-non-commercial", help="Accept licences that forbid commercial use.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Download models again that are already on this machine.")
    ] = False,
) -> None:
    """Download, verify, convert and cache models. Those already on this machine are only verified."""
    zoo = _zoo()
    wanted = dict.fromkeys(manifest.name for name in names for manifest in zoo.members(name))
    failed = False
    with RichProgress() as progress:
        pulled = zoo.pull_all(wanted, consent=accept_non_commercial, force=force, progress=progress)
        for manifest, outcome in pulled:
            failed |= _report(manifest.name, outcome)
    if failed:
        raise typer.Exit(1)


@models.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|SET…]", help="Default: all on this machine.")
    ] = None,
) -> None:
    """Check the hashes of the models on this machine."""
    zoo = _zoo()
    named = [manifest.name for name in names or [] for manifest in zoo.members(name)]
    failed = False
    for name in dict.fromkeys(named or [name for name in zoo.manifests if _is_here(zoo, name)]):
        failed |= _report(name, _located(zoo, name))
    if failed:
        raise typer.Exit(1)


@models.command()
def path(name: Annotated[str, typer.Argument(help="A model.")]) -> None:
    """Print the path of a model's verified file."""
    out.print(str(_zoo().locate(name)), soft_wrap=True, markup=False)


@models.command()
def info(name: Annotated[str, typer.Argument(help="A model.")]) -> None:
    """Show everything about a model."""
    zoo = _zoo()
    manifest = zoo.manifest(name)
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in (*_facts(manifest), *_cached_facts(zoo, name)):
        table.add_row(f"[bold]{label}[/]", escape(value))
    out.print(table)


@models.command()
def load(
    name: Annotated[str, typer.Argument(help="A model, or a set such as clip, that is on the server's machine.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    output: Output = "table",
) -> None:
    """Load a model into a running server, in place of the one with the same purpose. Lasts until the server stops."""
    with RemoteModels(url, api_key) as server:
        show(server.load(name), output, _changed)


@models.command()
def unload(
    name: Annotated[str, typer.Argument(help="A model of the server.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    output: Output = "table",
) -> None:
    """Unload a model of a running server and free its memory. Lasts until it is loaded again or the server stops."""
    with RemoteModels(url, api_key) as server:
        show(server.unload(name), output, _changed)


@models.command()
def loaded(url: Url = DEFAULT_URL, api_key: ApiKey = "", output: Output = "table") -> None:
    """List the models of a running server."""
    with RemoteModels(url, api_key) as server:
        show(server.loaded(), output, _loaded_table)


def _changed(change: dict[str, Any]) -> str:
    model = change["model"]
    return f"{model['name']}  {'' if change['changed'] else 'already '}{model['state']}"


def _loaded_table(served: list[dict[str, Any]]) -> Table:
    table = Table("model", "purpose", "state", "made of")
    for model in served:
        state = "required" if model["required"] else model["state"]
        table.add_row(model["name"], model["purpose"].replace("_", " "), state, ", ".join(model["manifests"]))
    return table


def _zoo() -> Zoo:
    return Zoo.from_settings(Settings())


def _report(name: str, outcome: Path | ModelError) -> bool:
    """One line for one model; True for a failure."""
    if isinstance(outcome, ModelError):
        err.print(f"[bold red]error[/] {name} ({outcome.code}): {escape(outcome.message)}", soft_wrap=True)
        return True
    out.print(f"{name}  ready  {decimal(outcome.stat().st_size)}")
    return False


def _located(zoo: Zoo, name: str) -> Path | ModelError:
    try:
        return zoo.locate(name)
    except ModelError as error:
        return error


def _is_here(zoo: Zoo, name: str) -> bool:
    try:
        return _size(zoo, name) is not None
    except ModelError:
        return True


def _size(zoo: Zoo, name: str) -> int | None:
    """Bytes of a model's file, by its record where there is one: hashing every file would make a list slow."""
    if record := zoo.record(name):
        return record.size
    path = zoo.find(name)
    return path.stat().st_size if path else None


def _state(zoo: Zoo, manifest: Manifest) -> str:
    try:
        size = _size(zoo, manifest.name)
    except ModelError:
        return "[red]corrupt[/]"
    return f"[green]{decimal(size)}[/]" if size else ""


def _origin(source: Source) -> str:
    where = {"pypi": "PyPI", "npm": "npm", "https": "web", "file": "this machine"}[source.kind]
    return f"{where} {source.package}" if source.package else where


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    facts = [
        ("name", manifest.name),
        ("title", manifest.title),
        ("task", manifest.task),
        ("licence", manifest.licence),
        ("commercial use", "no" if manifest.non_commercial else "yes"),
        ("made by", manifest.credit),
        ("from", manifest.source.url or _origin(manifest.source)),
        ("file", manifest.source.path or ""),
        ("source sha256", manifest.source.sha256 or "pinned on the first pull"),
        ("conversion", f"{manifest.convert}, revision {manifest.convert_revision}" if manifest.convert else "none"),
        ("sets", ", ".join(manifest.sets)),
    ]
    numbers = [
        ("dimensions", manifest.embedding_dim),
        ("score threshold", manifest.score_threshold),
        ("same-person cosine", manifest.same_threshold),
    ]
    return facts + [(label, f"{value}") for label, value in numbers if value is not None]


def _cached_facts(zoo: Zoo, name: str) -> list[tuple[str, str]]:
    record = zoo.record(name)
    if record is None and (path := zoo.find(name)):
        return [("here", f"{decimal(path.stat().st_size)}, included with Mien")]
    if record is None:
        return [("here", f"no: mien models pull {name}")]
    return [
        ("here", f"{decimal(record.size)} since {record.pulled_at:%Y-%m-%d %H:%M} UTC"),
        ("converted sha256", record.sha256),
    ]
