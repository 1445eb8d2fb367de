"""Rules for files in values from clients, who may not have access to the files of this machine, or to its network.

The kernel applies them while it validates a task's input or setup: every `File` created from a value in the meantime is
checked, also in models whose own `__init__` hides pydantic's context. Files that the app's own code creates are not.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from infsh._errors import FileUnavailable

SERVER_FILE = "server-file://"
"""The scheme of a client's file that the supervisor opens by its path: `server-file:///srv/photos/a.jpg`."""


@dataclass(frozen=True, slots=True)
class CallerRules:
    """Which files a client may refer to: those of its run, `data:` URIs, and what the supervisor fetches: URLs, and
    paths below some directories."""

    folder: Path | None = None
    """The directory in which the server placed the files of this run: only paths in it are accepted."""
    run_id: str | None = None
    """The run for which files are fetched; None: the setup."""
    paths: tuple[Path, ...] = ()
    """Directories whose files the supervisor may open, once it has checked them."""

    def grants(self, path: str) -> bool:
        """Whether the path, after resolving links, is in the run's directory."""
        return self.folder is not None and Path(path).resolve().is_relative_to(self.folder.resolve())

    def may_ask_for(self, path: str) -> bool:
        """Whether the path, which is absolute and without `..`, is below one of `paths` by its name."""
        return any(Path(path).is_relative_to(folder) for folder in self.paths)


Download = Callable[[str, str | None, threading.Event | None], tuple[Path, str | None]]
"""From a URL, the run and an event that aborts to the file and, if known, its media type. Raises FileUnavailable."""

_rules: ContextVar[CallerRules | None] = ContextVar("infsh_caller_rules", default=None)
_download: Download | None = None


def caller_rules() -> CallerRules | None:
    """The rules for the value being validated; None: it comes from the app, or from the user who runs it."""
    return _rules.get()


@contextmanager
def reading(rules: CallerRules | None) -> Iterator[None]:
    """Applies the rules to values that are validated within the block."""
    token = _rules.set(rules)
    try:
        yield
    finally:
        _rules.reset(token)


def use_downloads(download: Download) -> None:
    """Sets how this process gets the files behind URLs from clients. A global, because `File` objects are pickled."""
    global _download
    _download = download


def download(url: str, run_id: str | None, abort: threading.Event | None) -> tuple[Path, str | None]:
    """The file behind a client's URL (also a SERVER_FILE), fetched by the supervisor, and its media type if known.

    It is fetched there because this process runs code and has network access that clients must not have. Raises
    FileUnavailable, also without a supervisor.
    """
    if _download is None:
        raise FileUnavailable("a URL from a client is fetched by the server, and this process has none")
    return _download(url, run_id, abort)
