"""Formats an exception of an app: one sentence, and the traceback with the app's own frames only."""

import asyncio
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

import infsh

_FOREIGN = (
    str(Path(infsh.__file__).parent),
    str(Path(asyncio.__file__).parent),
    str(threading.__file__),
    "<frozen importlib",
    str(Path(sys.modules["importlib"].__file__ or "").parent),
)
_MAX_CHARACTERS = 20_000


def sentence(error: BaseException, folder: Path | None = None) -> str:
    """Type, message and, within the app's folder, the location."""
    if isinstance(error, SystemExit):
        said = f"the app called sys.exit({error.code!r})"
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = _place(error, folder)
    return f"{said} ({place})" if place else said


def frames(error: BaseException, folder: Path | None = None) -> str:
    """The traceback as Python prints it, from the app's first frame on.

    With the app's folder, files are relative to it, or to the environment or Python: where those are on this machine is
    nothing to the user who reads the log.
    """
    captured = traceback.TracebackException.from_exception(error, compact=True)
    _trim(captured, str if folder is None else _relative_to(folder))
    text = "".join(captured.format())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}\n…\n"


def invalid(what: str, error: ValidationError) -> str:
    """A sentence about the values that a model rejects, naming each key."""
    parts = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:10]:
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        parts.append(f"`{key}`: {message}" if key else message)
    return f"the {what} is invalid: {'; '.join(parts)}"


def _trim(captured: traceback.TracebackException, shown: Callable[[str], str]) -> None:
    own = [frame for frame in captured.stack if not frame.filename.startswith(_FOREIGN)]
    for frame in own:
        _ = frame.line  # reads the source, which is found by the full name only
        frame.filename = shown(frame.filename)
    captured.stack = traceback.StackSummary.from_list(own)
    if isinstance(filename := getattr(captured, "filename", None), str):  # of a SyntaxError
        captured.filename = shown(filename)
    for linked in (captured.__cause__, captured.__context__, *(captured.exceptions or ())):
        if linked is not None:
            _trim(linked, shown)


def _relative_to(folder: Path) -> Callable[[str], str]:
    """Shows a file by its name below the app's folder, `site-packages` or Python's directory; others by their last
    part."""
    tops = [folder, folder.resolve()]
    tops += [Path(sysconfig.get_path(name)).parent for name in ("purelib", "platlib", "stdlib", "platstdlib")]
    tops += [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]

    def shown(filename: str) -> str:
        path = Path(filename)
        if not path.is_absolute():  # <string>, or relative already
            return filename
        top = next((top for top in tops if path.is_relative_to(top)), None)
        return path.name if top is None else str(path.relative_to(top))

    return shown


def _place(error: BaseException, folder: Path | None) -> str | None:
    if folder is None:
        return None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(folder):
            return f"{path.relative_to(folder)}, line {frame.lineno}"
    return None
