"""Terminal output of an app: everything goes to stderr, so that stdout contains only the result."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from infsh._errors import AppInvalid, InfshError
from infsh._kernel import traces
from infsh._kernel.loader import LoadedApp, load_app
from infsh._kernel.runner import AppFailed


class TerminalSink:
    """Logs and progress as lines of stderr."""

    def log(self, line: str, run_id: str | None) -> None:
        sys.stderr.write(f"{line}\n")

    def progress(self, run_id: str, fraction: float, message: str) -> None:
        sys.stderr.write(f"{fraction:4.0%} {message}\n")


@contextlib.contextmanager
def app_output_on_stderr() -> Iterator[TextIO]:
    """The command's own stdout; what the app prints in the meantime goes to stderr, including from C code."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    logging.getLogger("infsh.app").setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("infsh.app").addHandler(handler)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def load(path: Path) -> LoadedApp:
    """Loads the app of a folder. Raises InfshError, or AppFailed with the app's traceback."""
    if not path.exists():
        raise AppInvalid(f"{path} does not exist: pass the folder of an app")
    try:
        return load_app(path)
    except InfshError:
        raise
    except (Exception, SystemExit) as error:
        said = traces.sentence(error, path.resolve())
        raise AppFailed("load", f"the app cannot be imported: {said}", traces.frames(error)) from error


def fields(pairs: list[str], option: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Values of `KEY=VALUE` options: text if the schema expects a string, else JSON. `@FILE.json` sets several."""
    values: dict[str, Any] = {}
    for pair in pairs:
        if pair.startswith("@"):
            values.update(_from_file(Path(pair[1:]), option))
            continue
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise AppInvalid(f"--{option} {pair} is not KEY=VALUE")
        values[key] = _value(text, schema.get("properties", {}).get(key, {}))
    return values


def plain(value: Any, marker: str) -> Any:
    """An output for display: a local file, which `marker` identifies, is shown as its path and metadata."""
    if isinstance(value, dict):
        return value[marker] if set(value) == {marker} else {key: plain(item, marker) for key, item in value.items()}
    return [plain(item, marker) for item in value] if isinstance(value, list) else value


def _value(text: str, schema: dict[str, Any]) -> Any:
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _from_file(path: Path, option: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AppInvalid(f"--{option} @{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise AppInvalid(f"--{option} @{path} must contain a JSON object")
    return content
