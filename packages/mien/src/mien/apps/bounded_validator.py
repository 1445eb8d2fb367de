"""JSON Schema validation that ends: whatever an app's schema makes of a value takes bounded time; nothing is fetched.

A schema of a kilobyte can demand exponential work (`allOf` of references), quadratic work (`uniqueItems`) or endless
recursion. Every keyword is therefore evaluated against a time limit, beyond which the value is undecided.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable

from mien.apps.patterns import Undecided, matches

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
_WRITTEN_IN_FULL = 2.0**64
"""Integers from here on are floats, as which they are decoded."""
_sorted_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_ends: ContextVar[float] = ContextVar("ends")
"""CPU time of this thread at which the evaluation in progress ends."""


def violations(
    schema: Mapping[str, Any], value: Any, *, most: int, seconds: float
) -> tuple[list[ValidationError], bool]:
    """Up to `most` violations of a valid schema, and whether they were all looked for: not if it took more than
    `seconds` of CPU time, or needs what is not evaluated here."""
    found: list[ValidationError] = []
    with _limit(seconds):
        try:
            found.extend(islice(_validator(schema).iter_errors(value), most))
        except (Undecided, RecursionError, Unresolvable, ArithmeticError):
            # ArithmeticError: `multipleOf` an integer beyond the range of floats.
            return found, False  # those found so far are none the less true
    return found, True


def is_schema(schema: Any, *, seconds: float) -> bool:
    """Whether it is a valid JSON Schema; False if that takes more than `seconds` of CPU time."""
    found, complete = violations(Draft202012Validator.META_SCHEMA, schema, most=1, seconds=seconds)
    return complete and not found


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    token = _ends.set(time.thread_time() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def _timed(keyword: Keyword) -> Keyword:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        if time.thread_time() > _ends.get():
            raise Undecided
        return keyword(validator, value, instance, schema)

    return evaluate


# --- keywords that would run Python's `re`, or take quadratic time


def _matches(pattern: str, text: str) -> bool:
    return matches(pattern, text, _ends.get() - time.thread_time())


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for name, value in instance.items():
            if _matches(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in instance if name not in known and not any(_matches(one, name) for one in patterns)]
    if validator.is_type(allowed, "object"):
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extra:
        verb = "was" if len(extra) == 1 else "were"
        names = ", ".join(repr(name) for name in sorted(extra))
        yield ValidationError(f"Additional properties are not allowed ({names} {verb} unexpected)")


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not unique or not validator.is_type(instance, "array"):
        return
    seen = set()
    for item in instance:
        if time.thread_time() > _ends.get():
            raise Undecided
        # As texts, whose hashes are keyed: numbers and tuples whose hashes are all equal are easily made.
        seen.add(_sorted_json(_same_numbers(item)))
    if len(seen) < len(instance):
        yield ValidationError("the list has the same item more than once")


def _same_numbers(value: Any) -> Any:
    """The value with floats that are integers as such: for JSON Schema 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, float):
        return int(value) if abs(value) < _WRITTEN_IN_FULL and value.is_integer() else value
    if isinstance(value, list):
        return [_same_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _same_numbers(item) for key, item in value.items()}
    return value


def _undecided(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    raise Undecided


_REPLACED: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "unevaluatedProperties": _undecided,
    "unevaluatedItems": _undecided,
}
_Bounded: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _timed(keyword) for name, keyword in (dict(Draft202012Validator.VALIDATORS) | _REPLACED).items()},
)


def _validator(schema: Mapping[str, Any]) -> Validator:
    # With the specifications' own schemas only: by default, jsonschema fetches a remote `$ref`.
    validator: Validator = _Bounded(schema, registry=REGISTRY)
    return validator
