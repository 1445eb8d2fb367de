"""From what an app returns to JSON values."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic_core
from pydantic import BaseModel, ValidationError

from infsh._errors import AppInvalid
from infsh._file import MARK_LOCAL, File
from infsh._kernel import traces
from infsh._kernel.loader import Function
from infsh._kernel.protocol import LOCAL_FILE


def to_json(value: Any, function: Function) -> Any:
    """JSON values, with local files as `{"$file": {…}}`. Raises AppInvalid, naming what was wrong."""
    if function.output_type is not None and not isinstance(value, BaseModel):
        value = _validated(value, function)
    try:
        return json.loads(pydantic_core.to_json(value, context={MARK_LOCAL: LOCAL_FILE}, fallback=_fallback))
    except (pydantic_core.PydanticSerializationError, ValueError, TypeError) as error:
        raise AppInvalid(f"the output of {function.name} cannot be written as JSON: {error}") from error


def missing_files(value: Any) -> Iterator[str]:
    """Paths of files in a JSON output that are not there and have no URI."""
    if isinstance(value, dict):
        path = value.get("path")
        if (
            isinstance(path, str)
            and set(value) <= {"path", "content_type", "size", "filename"}
            and Path(path).is_absolute()
        ):
            if not Path(path).is_file():
                yield path
            return
        for item in value.values():
            yield from missing_files(item)
    elif isinstance(value, list):
        for item in value:
            yield from missing_files(item)


def _validated(value: Any, function: Function) -> BaseModel:
    assert function.output_type is not None  # noqa: S101  # the caller looked
    expected = function.output_type.__name__
    if not isinstance(value, dict):
        raise AppInvalid(f"{function.name} returned {type(value).__name__} instead of {expected}")
    try:
        return function.output_type.model_validate(value)
    except ValidationError as error:
        raise AppInvalid(traces.invalid(f"output of {function.name}", error)) from error


def _fallback(value: Any) -> Any:
    if isinstance(value, File):
        return _Holder(file=value).model_dump(context={MARK_LOCAL: LOCAL_FILE})["file"]
    item = getattr(value, "tolist", None)  # numpy's numbers and arrays
    if callable(item):
        return item()
    raise TypeError(f"{type(value).__name__} is not a JSON type")


class _Holder(BaseModel):
    file: File
