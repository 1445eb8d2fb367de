"""`mien infer`: sends files to a service of a running server; the result as a table, JSON or YAML."""

import base64
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from lumen_client import LumenClient, Payload, Result
from mien.cli.output import out, write_json, write_yaml
from mien.errors import RequestError

SHOWN_NUMBERS = 4


def infer_files(
    client: LumenClient,
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
    payloads = [_payload(path) for path in paths] + ([] if text is None else [text])
    if not payloads:
        raise RequestError("nothing to send: pass a file, or use --text")
    meta = metadata_of(metadata)
    if not stream and not service.endswith("_stream"):
        show(client.infer(service, payloads, task=task, meta=meta), output, "result")
        return
    with client.stream(service, payloads, task=task, meta=meta) as results:
        for result in results:
            show(result, output, "result_b64")


def metadata_of(pairs: Iterable[str]) -> dict[str, str]:
    """The metadata of `key=value` arguments."""
    metadata = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RequestError(f"--meta {pair!r}: expected KEY=VALUE")
        metadata[key] = value
    return metadata


def _payload(path: Path) -> Payload:
    """A regular file is read while it is sent; a pipe now."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read()
        return path if path.is_file() else path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from None


def show(result: Result, output: str, name: str) -> None:
    """Print one result or event, as the server sends it; a decoded result replaces the base64 under `name`."""
    if output == "json":
        write_json(_fields(result, name))
    elif output == "yaml":
        write_yaml(_fields(result, name))
    else:
        _tables(result)


def _fields(result: Result, name: str) -> dict[str, Any]:
    value = result.value
    fields = {
        "correlation_id": result.correlation_id,
        "is_final": result.is_final,
        name: base64.b64encode(result.data).decode(),
        "meta": dict(result.meta),
        "seq": result.seq,
        "total": result.total,
        "offset": result.offset,
        "result_mime": result.mime,
        "result_schema": result.schema,
    }
    if name == "result_b64":
        fields["error"] = None
    if value is not None:
        del fields[name]
    return {**fields, "result_json": value}


def _tables(answer: Result) -> None:
    meta = " ".join(f"{key}={value}" for key, value in answer.meta.items())
    part = "" if answer.is_final else f" part {answer.seq}"
    out.print(f"{answer.correlation_id}{part} {answer.mime} {meta}", markup=False, soft_wrap=True)
    result = answer.value
    if result is None:
        out.print(f"{len(answer.data)} bytes; use --output json to see them as base64")
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
