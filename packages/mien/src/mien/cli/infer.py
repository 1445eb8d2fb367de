"""`mien infer`: sends files to a service of a running server; the result as a table, JSON or YAML."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from mien.cli.client import InferClient
from mien.cli.output import out, write_json, write_yaml
from mien.errors import RequestError

SHOWN_NUMBERS = 4
BASE64_FIELDS = ("result", "result_b64")


def infer_files(
    client: InferClient,
    service: str,
    paths: list[Path],
    *,
    text: str | None,
    task: str,
    metadata: list[str],
    stream: bool,
    output: str,
) -> None:
    """Send the files (`-` is stdin), or a text, as one request and print the result."""
    payloads = [_read(path) for path in paths] + ([] if text is None else [text.encode()])
    if not payloads:
        raise RequestError("nothing to send: pass a file, or use --text")
    name = service.removesuffix("_stream")
    fields = {"service": f"{name}_stream" if stream or name != service else name, "task": task}
    fields["metadata"] = orjson.dumps(metadata_of(metadata)).decode()
    if fields["service"] == name:
        show(client.infer(fields, payloads), output)
        return
    for event in client.events(fields, payloads):
        show(event, output)


def metadata_of(pairs: Iterable[str]) -> dict[str, str]:
    """The metadata of `key=value` arguments."""
    metadata = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RequestError(f"--meta {pair!r}: expected KEY=VALUE")
        metadata[key] = value
    return metadata


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from None


def show(answer: dict[str, Any], output: str) -> None:
    """Print one result or event; a decoded result replaces its base64."""
    if answer.get("result_json") is not None:
        answer = {key: value for key, value in answer.items() if key not in BASE64_FIELDS}
    if output == "json":
        write_json(answer)
    elif output == "yaml":
        write_yaml(answer)
    else:
        _tables(answer)


def _tables(answer: dict[str, Any]) -> None:
    meta = " ".join(f"{key}={value}" for key, value in answer["meta"].items())
    part = "" if answer["is_final"] else f" part {answer['seq']}"
    out.print(f"{answer['correlation_id']}{part} {answer['result_mime']} {meta}", markup=False, soft_wrap=True)
    result = answer.get("result_json")
    if result is None:
        size = len(answer.get("result") or answer.get("result_b64") or "") * 3 // 4
        out.print(f"about {size} bytes; use --output json to see them as base64")
        return
    for one in result if isinstance(result, list) else [result]:
        out.print(table_of(one) if isinstance(one, dict) else _brief(one))


def table_of(result: dict[str, Any]) -> Table:
    """A result as rows: one for each item of its list of items, else one for each of its keys."""
    items = next((v for v in result.values() if isinstance(v, list) and v and isinstance(v[0], dict)), None)
    if items is None:
        table = Table("key", "value")
        for key, value in result.items():
            table.add_row(key, _brief(value))
        return table
    columns = [key for key in items[0] if any(item.get(key) is not None for item in items)]
    table = Table("#", *columns)
    for number, item in enumerate(items, 1):
        table.add_row(str(number), *(_brief(item.get(column)) for column in columns))
    return table


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        shown = " ".join(_brief(item) for item in value[:SHOWN_NUMBERS])
        return shown if len(value) <= SHOWN_NUMBERS else f"{shown} … ({len(value)})"
    return "-" if value is None else str(value)
