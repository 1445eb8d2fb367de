"""`mien apps …`: the apps of the server whose data is in MIEN_DATA_DIR or, with `--url`, of a running one."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mien.apps.cleaning import clean
from mien.apps.deploy import Deployer
from mien.apps.environments import Environments
from mien.apps.record import AppVersion
from mien.apps.reference import AppRef, parse_ref
from mien.apps.registry import AppRegistry
from mien.cli.client import ApiKey, RemoteApps
from mien.cli.output import err, out, print_table
from mien.errors import RequestError
from mien.settings import Settings

apps = typer.Typer(no_args_is_help=True)
DAY = 86400.0
Server = Annotated[
    str, typer.Option(metavar="URL", help="A running server. Default: the data directory of this machine.")
]
Reference = Annotated[str, typer.Argument(help="namespace/name, optionally with @version.")]


def _registry(settings: Settings) -> AppRegistry:
    return AppRegistry(settings.locations.apps_dir)


def _ref(text: str, settings: Settings) -> AppRef:
    return parse_ref(text, settings.apps.app_namespace)


@apps.command()
def deploy(
    path: Annotated[Path, typer.Argument(help="The app's folder: inf.yml, inference.py, requirements.txt.")],
    name: Annotated[str | None, typer.Option(help="namespace/name. Default: from inf.yml.")] = None,
    url: Server = "",
    api_key: ApiKey = "",
) -> None:
    """Deploy a folder as the latest version of an app. This runs code of the app."""
    settings = Settings()

    def log(line: str) -> None:
        err.print(line, style="dim", markup=False, soft_wrap=True)

    if url:
        with RemoteApps(url, api_key) as remote:
            found = remote.deploy(path, name, settings, log)
        err.print(f"deployed {found['id']}: {', '.join(found['functions'])}")
        out.print(found["ref"], soft_wrap=True)
        return
    environments = Environments(settings.locations.environments_dir, constraints=settings.apps.app_constraints)
    deployer = Deployer(settings.apps, settings.workers, _registry(settings), environments)
    version = asyncio.run(deployer.deploy(path, name, log)).version
    err.print(f"deployed {version.app}: {', '.join(version.functions)}")
    out.print(f"{version.app}@{version.short_id}", soft_wrap=True)


@apps.command("list")
def list_apps(url: Server = "", api_key: ApiKey = "") -> None:
    """Show all apps with their latest version."""
    table = Table("app", "version", "deployed", "functions", "description")
    if url:
        with RemoteApps(url, api_key) as remote:
            for app in remote.list():
                day = str(app["created_at"] or "built in")[:16].replace("T", " ")
                table.add_row(app["id"], app["version"], day, ", ".join(app["functions"]), app["description"])
        print_table(table, "no apps")
        return
    for found in _registry(Settings()).all():
        version = found.version
        table.add_row(
            version.app, version.short_id, _day(version), ", ".join(version.functions), version.manifest.description
        )
    print_table(table, "no apps are deployed here; `mien apps deploy PATH` deploys one")


@apps.command()
def show(reference: Reference, url: Server = "", api_key: ApiKey = "") -> None:
    """Show one app: its versions, functions, variants and requirements."""
    if url:
        with RemoteApps(url, api_key) as remote:
            _show_remote(remote.show(reference))
        return
    settings = Settings()
    registry, ref = _registry(settings), _ref(reference, settings)
    version = registry.resolve(ref).version
    out.print(f"{version.app}@{version.short_id}  {version.manifest.description}", markup=False)
    out.print(f"version    {version.version}", soft_wrap=True)
    out.print(f"functions  {', '.join(version.functions)} (default: {version.default_function})")
    out.print(f"variants   {', '.join(version.variants)}")
    out.print(f"python     {version.manifest.python or 'same as the server'}")
    out.print(f"files      {version.files}, {version.size} bytes")
    if version.packages:
        out.print(f"packages   {', '.join(version.packages)} (not installed by Mien)")
    latest = registry.resolve(AppRef(ref.namespace, ref.name)).version.version
    for other in registry.versions(ref):
        mark = "  latest" if other.version.version == latest else ""
        out.print(f"{other.version.short_id}  {_day(other.version)}{mark}")


@apps.command()
def rollback(reference: Reference, url: Server = "", api_key: ApiKey = "") -> None:
    """Go back to the previous version, or to the one specified."""
    if url:
        with RemoteApps(url, api_key) as remote:
            out.print(remote.rollback(reference)["ref"], soft_wrap=True)
        return
    settings = Settings()
    version = _registry(settings).rollback(_ref(reference, settings)).version
    out.print(f"{version.app}@{version.short_id}", soft_wrap=True)


@apps.command("rm")
def remove(reference: Reference, url: Server = "", api_key: ApiKey = "") -> None:
    """Remove one version or, without @version, the whole app."""
    settings = Settings()
    ref = _ref(reference, settings)
    if url:
        with RemoteApps(url, api_key) as remote:
            count = int(remote.remove(reference)["removed"])
    else:
        count = _registry(settings).remove(ref)
    err.print(f"removed {count} version{'s' if count > 1 else ''} of {ref.app}")


@apps.command()
def prune(
    days: Annotated[
        float | None, typer.Option(min=0, help="Days since the last use. Default: MIEN_ENVIRONMENT_KEEP_DAYS.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove environments on this machine that no deployed version needs and that have not been used recently."""
    settings = Settings()
    wanted = settings.apps.environment_keep_days if days is None else days
    if wanted is None:
        raise RequestError("MIEN_ENVIRONMENT_KEEP_DAYS keeps environments forever; use --days")
    environments = Environments(settings.locations.environments_dir, constraints=settings.apps.app_constraints)
    gone = clean(environments, _registry(settings), seconds=wanted * DAY, now=time.time(), dry=dry_run)
    table = Table("environment", "last used", "MB", "requirements")
    for found in gone:
        used = datetime.fromtimestamp(found.used, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(found.key, used, f"{found.size / 1e6:.1f}", escape(" ".join(found.requirements.split())) or "-")
    if gone:
        out.print(table)
    size = sum(found.size for found in gone) / 1e6
    what = "would be removed" if dry_run else "removed"
    err.print(f"{what}: {len(gone)} environment{'' if len(gone) == 1 else 's'}, {size:.1f} MB")


def _show_remote(app: dict[str, Any]) -> None:
    out.print(f"{app['ref']}  {app['description']}", markup=False)
    out.print(f"version    {app['version_id'] or 'built in'}", soft_wrap=True)
    out.print(f"functions  {', '.join(app['functions'])} (default: {app['default_function']})")
    out.print(f"variants   {', '.join(app['variants'])}")
    for other in app["versions"]:
        mark = "  latest" if other["latest"] else ""
        out.print(f"{other['version']}  {other['created_at'][:16].replace('T', ' ')}{mark}")


def _day(version: AppVersion) -> str:
    return version.created.strftime("%Y-%m-%d %H:%M")
