"""Validation of task inputs against the schemas of their apps, before a task is created."""

from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator

from mien.errors import InvalidField

KNOWN = 512
MOST_ERRORS = 10
LONGEST_TEXT = 200


class InputChecks:
    """Validates values; compiles each validator once. Thread-safe, since large values are validated in threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Validator | None] = {}

    def check(self, key: tuple[str, str, str], schema: dict[str, Any] | None, value: Any, name: str) -> None:
        """Raise InvalidField naming each field of `value` that violates `schema`.

        `key` identifies the schema; `name` is the name of the value in messages: `input`, `setup`.
        """
        if not schema:
            return
        validator = self._validator_of(key, schema)
        if validator is None:
            return
        errors = []
        for error in validator.iter_errors(value):
            errors.append(error)
            if len(errors) == MOST_ERRORS:
                break
        if errors:
            details = tuple(_detail(error, name) for error in errors)
            raise InvalidField("; ".join(f"{_path(item['loc'])}: {item['msg']}" for item in details), details)

    def _validator_of(self, key: tuple[str, str, str], schema: dict[str, Any]) -> Validator | None:
        try:
            return self._known[key]
        except KeyError:  # also if another thread has just cleared the cache
            if len(self._known) >= KNOWN:
                self._known.clear()
            validator = self._known[key] = _validator(schema)
            return validator


def _validator(schema: dict[str, Any]) -> Validator | None:
    """None for an invalid schema: the app validates its input itself anyway."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except SchemaError:
        return None
    return jsonschema.Draft202012Validator(schema)


def _detail(error: ValidationError, name: str) -> dict[str, Any]:
    location: list[str | int] = [name, *error.absolute_path]
    if error.validator == "required" and isinstance(error.instance, dict):
        fields: Any = error.validator_value
        wanted = [field for field in fields if field not in error.instance]
        return {"type": "missing", "loc": [*location, wanted[0]], "msg": "this field is required"}
    return {"type": str(error.validator), "loc": location, "msg": error.message[:LONGEST_TEXT]}


def _path(location: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
