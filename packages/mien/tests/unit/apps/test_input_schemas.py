"""Inputs are checked against the schemas of their apps, in bounded time; what cannot be decided is left to the app."""

import time
from typing import Any

import pytest

from mien.apps.bounded_validator import is_schema, violations
from mien.apps.input_schemas import SECONDS, InputChecks
from mien.apps.patterns import STEPS_PER_SECOND, Undecided, undecided_patterns
from mien.apps.patterns import matches as matches_within
from mien.errors import InvalidField


def matches(pattern: str, text: str) -> bool:
    return matches_within(pattern, text, 1.0)


KEY = ("a/b", "v1", "run()")


def check(schema: dict[str, Any], value: Any) -> None:
    InputChecks().check(KEY, schema, value, "input")


def refusal(schema: dict[str, Any], value: Any) -> str:
    with pytest.raises(InvalidField) as caught:
        check(schema, value)
    return caught.value.message


TEXT = {"type": "object", "properties": {"text": {"type": "string", "pattern": "^[a-z]+$"}}, "required": ["text"]}


def test_what_violates_the_schema_is_named() -> None:
    check(TEXT, {"text": "abc"})
    assert refusal(TEXT, {"text": "ABC"}) == "input.text: 'ABC' does not match '^[a-z]+$'"
    assert refusal(TEXT, {"text": 3}) == "input.text: 3 is not of type 'string'"
    assert refusal(TEXT, {}) == "input.text: this field is required"


@pytest.mark.parametrize(
    ("schema", "good", "bad", "words"),
    [
        ({"patternProperties": {"^x": {"type": "integer"}}}, {"x1": 1, "y": "a"}, {"x1": "a"}, "input.x1: 'a' is not"),
        (
            {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False},
            {"a": 1, "x": 2},
            {"a": 1, "y": 2, "z": 3},
            "('y', 'z' were unexpected)",
        ),
        ({"additionalProperties": {"type": "string"}}, {"a": "b"}, {"a": 1}, "input.a: 1 is not"),
        ({"propertyNames": {"pattern": "^[a-z]$"}}, {"a": 1}, {"A": 1}, "does not match"),
        ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}, 0, False], [{"a": [1]}, {"a": [1.0]}], "more than once"),
        ({"uniqueItems": True}, [], [2, 1, 1.0], "more than once"),
        ({"multipleOf": 0.5}, 1e308, 0.75, "multiple"),
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, 7, 3, "not valid under any"),
        ({"not": {"pattern": "a"}}, "b", "a", "should not be valid"),
    ],
)
def test_the_keywords_mean_what_they_did(schema: dict[str, Any], good: Any, bad: Any, words: str) -> None:
    check(schema, good)
    assert words in refusal(schema, bad)


# --- patterns


@pytest.mark.parametrize("pattern", [r"^(\w+\s?)*$", r"^(a+)+$", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_a_pattern_that_takes_other_engines_ages_takes_milliseconds(pattern: str) -> None:
    started = time.thread_time()
    for text in ("a" * 5000 + "!", "x" * 5000 + "\0"):
        assert not matches(pattern, text)
    assert time.thread_time() - started < 1


@pytest.mark.parametrize(
    "pattern", [r"(?=a)b", r"(a)\1", r"(?<!x)y", r"a{5000}", "(", r"((a{100}){100}){100}", "\ud800"]
)
def test_what_re2_cannot_match_is_left_to_the_app(pattern: str) -> None:
    with pytest.raises(Undecided):
        matches(pattern, "text")
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}, "b": {"type": "integer"}}}
    check(schema, {"a": "anything"})
    assert list(undecided_patterns(schema)) == [pattern]


def test_errors_that_were_found_before_count_all_the_same() -> None:
    schema = {"properties": {"b": {"type": "integer"}, "a": {"pattern": "(?=x)"}}}
    assert refusal(schema, {"a": "x", "b": "y"}) == "input.b: 'y' is not of type 'integer'"


@pytest.mark.parametrize("text", ["é", "Straße", "\ud800"])
def test_classes_that_engines_see_differently_decide_on_ascii_only(text: str) -> None:
    assert matches(r"^\w+$", "abc")
    assert not matches(r"^\w+$", "a b")
    with pytest.raises(Undecided):
        matches(r"^\w+$", text)


def test_letters_beyond_ascii_are_matched_where_that_is_no_question() -> None:
    assert matches("^[a-zéß]+$", "éß")
    assert matches("^.$", "é")


def test_long_texts_are_left_to_the_app() -> None:
    with pytest.raises(Undecided):
        matches("a", "a" * STEPS_PER_SECOND)
    with pytest.raises(Undecided):
        matches_within("a{100}", "a" * 10_000, 0.002)


def test_every_pattern_of_a_schema_is_looked_at() -> None:
    schema = {"$defs": {"a": {"items": [{"patternProperties": {"(?!a)": {"pattern": "(?=b)"}, "c": {}}}]}}}
    assert list(undecided_patterns(schema)) == ["(?!a)", "(?=b)"]


# --- schemas that never end


def explosion(keyword: str, levels: int = 40) -> dict[str, Any]:
    definitions = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(levels)
    }
    return {"$defs": definitions | {f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


ENDLESS = {
    "allOf": explosion("allOf"),
    "anyOf": explosion("anyOf"),
    "oneOf": explosion("oneOf"),
    "a reference to itself": {"$ref": "#"},
    "a circle": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "unevaluated": explosion("allOf") | {"unevaluatedProperties": False},
    "a large enum": {"items": {"enum": [[n] for n in range(20_000)]}},
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_schema_that_never_ends_is_left_to_the_app(name: str) -> None:
    value = [["x"]] * 50_000 if name == "a large enum" else {"a": 1} if name == "unevaluated" else "x"
    started = time.thread_time()
    errors, complete = violations(ENDLESS[name], value, most=1_000_000, seconds=0.1)
    assert not complete
    assert time.thread_time() - started < 5
    assert len(errors) < 1_000_000


def test_many_unequal_items_take_linear_time() -> None:
    started = time.thread_time()
    check({"uniqueItems": True}, [{"a": n} for n in range(100_000)])
    assert time.thread_time() - started < 5


def test_many_items_of_all_kinds_take_linear_time() -> None:
    kinds = [lambda n: n, lambda n: n + 0.5, str, lambda n: [n], lambda n: {"a": n, "b": [n]}, lambda n: [{"c": -n}]]
    items = [make(n) for n in range(16_700) for make in kinds] + [True, False, None, [], {}]
    started = time.thread_time()
    assert violations({"uniqueItems": True}, items, most=1, seconds=10) == ([], True)
    again = [*items, {"b": [7.0], "a": 7}]
    assert "more than once" in refusal({"uniqueItems": True}, again)
    assert time.thread_time() - started < 10


def test_items_made_to_have_one_hash_take_linear_time() -> None:
    pairs = pairs_of_one_hash(40_000)
    assert len({hash(tuple(pair)) for pair in pairs[:1000]}) == 1
    started = time.thread_time()
    check({"uniqueItems": True}, pairs)
    assert time.thread_time() - started < 5


def pairs_of_one_hash(count: int) -> list[list[int]]:
    """Lists that would have the same hash as tuples: CPython's xxHash without a key, run backwards."""
    p1, p2, p5, size = 11400714785074694791, 14029467366897019727, 2870177450012600261, 2**64
    back, pairs = pow(p2, -1, size), []
    for first in range(10**9):
        lane = (p5 + first * p2) % size
        lane = ((lane << 31 | lane >> 33) * p1) % size
        second = (12345 - lane) * back % size
        second -= size if second >= size // 2 else 0
        if abs(second) < 2**61 - 1 and second != -1:
            pairs.append([first, second])
        if len(pairs) == count:
            break
    return pairs


def test_deeply_nested_values_of_a_recursive_schema_are_left_to_the_app() -> None:
    schema = {"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}
    value: Any = []
    for _ in range(900):
        value = [value]
    check(schema, value)
    assert "is not of type" in refusal(schema, [[["x"]]])


def test_nothing_is_fetched() -> None:
    check({"$ref": "http://127.0.0.1:1/schema.json"}, 1)
    check({"$ref": "#/$defs/missing"}, 1)


# --- the schema itself


def test_an_invalid_schema_checks_nothing() -> None:
    for schema in ({"type": "nonsense"}, {"properties": 3}, {"pattern": 5}):
        check(schema, {"a": 1})
    nested: dict[str, Any] = {}
    for _ in range(2000):
        nested = {"items": nested}
    assert not is_schema(nested, seconds=SECONDS)
    check(nested, [[1]])


# --- on the event loop


def test_the_first_check_of_a_schema_is_not_for_the_event_loop() -> None:
    checks = InputChecks()
    assert not checks.check_quickly(KEY, TEXT, {"text": "abc"}, "input")
    checks.check(KEY, TEXT, {"text": "abc"}, "input")
    assert checks.check_quickly(KEY, TEXT, {"text": "abc"}, "input")
    with pytest.raises(InvalidField):
        checks.check_quickly(KEY, TEXT, {"text": "ABC"}, "input")
    assert checks.check_quickly(("c/d", "", "run()"), None, 1, "input")


def test_a_demanding_schema_is_given_up_quickly_there() -> None:
    checks = InputChecks()
    schema = explosion("anyOf")
    checks.check(KEY, schema, 1, "input")
    started = time.thread_time()
    assert not checks.check_quickly(KEY, schema, "x", "input")
    assert time.thread_time() - started < 0.5


def test_numbers_beyond_the_range_of_floats_are_undecided() -> None:
    assert violations({"multipleOf": 10**400}, 1.5, most=1, seconds=10) == ([], False)
