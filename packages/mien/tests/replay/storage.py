"""The recording as a file: one exchange a line, so that a changed answer is a changed line.

Lists of objects with the same keys are written as a table. That halves the file and loses nothing.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEYS, ROWS = "#keys", "#rows"


def read(path: Path) -> list[dict[str, Any]]:
    """The answers, as they were written."""
    return [_expanded(json.loads(line)) for line in path.read_text().splitlines()]


def write(path: Path, answers: Sequence[dict[str, Any]]) -> None:
    """Write the answers, in their order."""
    lines = (json.dumps(_tabled(answer), ensure_ascii=False, separators=(",", ":")) for answer in answers)
    path.write_text("".join(f"{line}\n" for line in lines))


def _tabled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tabled(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) > 1 and all(isinstance(item, dict) and list(item) == list(value[0]) for item in value):
        return {KEYS: list(value[0]), ROWS: [[_tabled(cell) for cell in item.values()] for item in value]}
    return [_tabled(item) for item in value]


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if list(value) == [KEYS, ROWS]:
        return [dict(zip(value[KEYS], map(_expanded, row), strict=True)) for row in value[ROWS]]
    return {key: _expanded(item) for key, item in value.items()}
