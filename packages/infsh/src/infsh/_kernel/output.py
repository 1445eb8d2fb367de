"""Converts what an app returns to JSON values."""

import json
from typing import Any

import pydantic_core
from pydantic import BaseModel, ValidationError

from infsh._errors import AppInvalid
from infsh._file import MARK_LOCAL, NOTE_MISSING, File
from infsh._kernel import traces
from infsh._kernel.loader import Function


def to_json(value: Any, function: Function, marker: str, missing: list[str]) -> Any:
    """JSON values, with local files as `{marker: {…}}`; `missing` is given the paths of those that are not there.

    Only `File` objects are marked: a dict of the same form is data. Raises AppInvalid, naming what was wrong.
    """
    if function.output_type is not None and not isinstance(value, BaseModel):
        value = _validated(value, function)
    context = {MARK_LOCAL: marker, NOTE_MISSING: missing}

    def fallback(value: Any) -> Any:
        return _Holder(file=value).model_dump(context=context)["file"] if isinstance(value, File) else _plain(value)

    try:
        return json.loads(pydantic_core.to_json(value, context=context, fallback=fallback))
    except (pydantic_core.PydanticSerializationError, ValueError, TypeError) as error:
        raise AppInvalid(f"the output of {function.name} cannot be written as JSON: {error}") from error


def _validated(value: Any, function: Function) -> BaseModel:
    assert function.output_type is not None  # noqa: S101  # the caller looked
    expected = function.output_type.__name__
    if not isinstance(value, dict):
        raise AppInvalid(f"{function.name} returned {type(value).__name__} instead of {expected}")
    try:
        return function.output_type.model_validate(value)
    except ValidationError as error:
        raise AppInvalid(traces.invalid(f"output of {function.name}", error)) from error


def _plain(value: Any) -> Any:
    item = getattr(value, "tolist", None)  # numpy's numbers and arrays
    if callable(item):
        return item()
    raise TypeError(f"{type(value).__name__} is not a JSON type")


class _Holder(BaseModel):
    file: File
