"""Validation of task inputs against the schemas of their apps, before a task is created.

It tells a caller early what the app would reject. What it cannot decide in time the app decides, in its own process.
"""

from typing import Any, TypeAlias

from jsonschema.exceptions import ValidationError

from mien.apps.bounded_validator import is_schema, violations
from mien.errors import InvalidField

SchemaKey: TypeAlias = tuple[str, str, str]
"""App, version, and which of its schemas."""
KNOWN = 512
MOST_ERRORS = 10
LONGEST_TEXT = 200
SCHEMA_SECONDS = 1.0
"""CPU time for checking a schema itself, once."""
QUICK_SECONDS = 0.002
"""CPU time that a value may take on the event loop."""
SECONDS = 1.0
"""CPU time that a value may take in a thread."""


class InputChecks:
    """Validates values; checks each schema once. Thread-safe, since most of it runs in threads."""

    def __init__(self) -> None:
        self._known: dict[SchemaKey, bool] = {}

    def check_quickly(self, key: SchemaKey, schema: dict[str, Any] | None, value: Any, name: str) -> bool:
        """As `check`, in a few milliseconds; False if that was not enough for a result."""
        if not schema:
            return True
        valid = self._known.get(key)
        if not valid:
            return valid is not None
        errors, complete = violations(schema, value, most=MOST_ERRORS, seconds=QUICK_SECONDS)
        if complete:
            _require_none(errors, name)
        return complete

    def check(self, key: SchemaKey, schema: dict[str, Any] | None, value: Any, name: str) -> None:
        """Raise InvalidField naming each field of `value` that violates `schema`. Takes up to a second or two.

        `key` identifies the schema; `name` is the name of the value in messages: `input`, `setup`.
        """
        if schema and self._is_valid(key, schema):
            errors, _ = violations(schema, value, most=MOST_ERRORS, seconds=SECONDS)
            _require_none(errors, name)

    def _is_valid(self, key: SchemaKey, schema: dict[str, Any]) -> bool:
        """Whether the schema can be used; if not, the app validates its input itself anyway."""
        try:
            return self._known[key]
        except KeyError:  # also if another thread has just cleared the cache
            if len(self._known) >= KNOWN:
                self._known.clear()
            valid = self._known[key] = is_schema(schema, seconds=SCHEMA_SECONDS)
            return valid


def _require_none(errors: list[ValidationError], name: str) -> None:
    """Raise InvalidField if there are any."""
    if errors:
        details = tuple(_detail(error, name) for error in errors)
        raise InvalidField("; ".join(f"{_path(item['loc'])}: {item['msg']}" for item in details), details)


def _detail(error: ValidationError, name: str) -> dict[str, Any]:
    location: list[str | int] = [name, *error.absolute_path]
    if error.validator == "required" and isinstance(error.instance, dict):
        fields: Any = error.validator_value
        wanted = [field for field in fields if field not in error.instance]
        return {"type": "missing", "loc": [*location, wanted[0]], "msg": "this field is required"}
    return {"type": str(error.validator), "loc": location, "msg": error.message[:LONGEST_TEXT]}


def _path(location: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
