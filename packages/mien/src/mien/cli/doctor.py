"""`mien doctor`: checks whether the server can run on this machine."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import onnxruntime
from rich.markup import escape

from mien.cli.output import out
from mien.connections.limits import ConnectionLimits
from mien.connections.tls import server_context
from mien.engine.plan import provider_names, thread_budget
from mien.errors import MienError
from mien.hosts import ANY_ADDRESS
from mien.keys import FileKeyStore
from mien.locks import open_lock, try_share_lock
from mien.server import require_safe_host
from mien.settings import Settings
from mien.zoo.selection import optional_models, required_models
from mien.zoo.zoo import Zoo

LOCK = "mien.lock"
ANSWER_SECONDS = 5.0


def examine(settings: Settings) -> bool:
    """Print one line per check; True if the server can start."""
    good = True
    for name, check in _checks(settings):
        try:
            out.print(f"[green]ok[/]    {name}: {escape(check())}", soft_wrap=True)
        except (MienError, OSError) as error:
            good = False
            out.print(f"[red]fail[/]  {name}: {escape(str(error))}", soft_wrap=True)
    return good


def _checks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    zoo = Zoo.from_settings(settings)
    yield "runtime", lambda: f"onnxruntime {onnxruntime.__version__}, {_providers(settings)}"
    yield "threads", lambda: f"{thread_budget(settings.execution)} for all models together"
    for name in required_models(settings.models):
        yield f"model {name}", partial(_model, zoo, name)
    for name in optional_models(settings.models):
        yield f"model {name}", partial(_optional_model, zoo, name)
    yield "data folder", lambda: _writable(settings.locations.data_dir)
    yield "cache folder", lambda: _writable(settings.locations.cache_dir)
    for port in settings.listening.ports:
        yield f"port {port}", partial(_port, settings, port)
    if settings.listening.max_connections is not None:
        yield "connections", lambda: f"at most {ConnectionLimits.from_settings(settings.listening).connections}"
    if settings.listening.tls_certificate is not None:
        yield "certificate", lambda: _certificate(settings)
    yield "access", lambda: _access(settings)


def _model(zoo: Zoo, name: str) -> str:
    return f"{zoo.locate(name).stat().st_size / 1e6:.1f} MB, hash verified"


def _optional_model(zoo: Zoo, name: str) -> str:
    if zoo.find(name) is None:
        return f"missing; pulled when first needed, or by `mien models pull {name}`"
    return _model(zoo, name)


def _providers(settings: Settings) -> str:
    return ", ".join(provider_names(settings.execution.providers, onnxruntime.get_available_providers()))


def _writable(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable")
    return str(folder)


def _port(settings: Settings, port: int) -> str:
    """Free, or in use by the server that this data folder belongs to: then that is no fault."""
    try:
        return _free(settings.listening.host, port)
    except OSError as error:
        running = _is_locked(settings.locations.data_dir / LOCK) and _answers(settings, port)
        if error.errno != errno.EADDRINUSE or not running:
            raise
    return "in use by the server that is running with this data folder"


def _is_locked(path: Path) -> bool:
    """Whether a server holds the lock of its data folder."""
    if not path.exists():
        return False
    descriptor = open_lock(path)
    try:
        return not try_share_lock(descriptor)
    finally:
        os.close(descriptor)


def _answers(settings: Settings, port: int) -> bool:
    """Whether a Mien server is behind the port."""
    listening = settings.listening
    host = "127.0.0.1" if listening.host in ANY_ADDRESS else listening.host
    # Only whether it is there: its certificate is for the name that clients use.
    with httpx2.Client(verify=False, trust_env=False, timeout=ANSWER_SECONDS) as client:
        try:
            found = client.get(f"{listening.url(host, port)}/readyz").json()
        except (httpx2.HTTPError, ValueError):
            return False
    return isinstance(found, dict) and found.get("status") in ("ready", "loading", "failing")


def _free(host: str, port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
    return "free"


def _certificate(settings: Settings) -> str:
    server_context(settings.listening)
    return str(settings.listening.tls_certificate)


def _access(settings: Settings) -> str:
    require_safe_host(settings)
    count = len(FileKeyStore(settings.locations.data_dir).all())
    return f"{count} API keys" if count else f"no API keys; {settings.listening.host} only"
