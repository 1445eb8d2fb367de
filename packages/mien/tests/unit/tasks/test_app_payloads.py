"""Which field of an app's input a payload and its metadata go into."""

from typing import Any, Literal, Optional

import msgspec
import pytest
from pydantic import BaseModel

from infsh import BaseAppInput, File
from mien.errors import BodyTooLarge, InvalidField
from mien.inference.contract import Item
from mien.tasks.payloads import JSON, AppInput, PayloadLimits, app_input

LIMITS = PayloadLimits(values=400_000, bytes=200_000)


class Style(BaseModel):
    name: str = ""


class Everything(BaseAppInput):
    """A real app's input: the schema is the one that its deployment stores."""

    strength: float = 1.0
    steps: Optional[int] = None  # noqa: UP045 - as apps write it
    tags: list[str] = []  # noqa: RUF012 - pydantic copies it
    style: Style = Style()
    mode: Literal["fast", "good"] = "fast"
    prompt: str = ""
    note: Optional[str] = None  # noqa: UP045
    image: Optional[File] = None  # noqa: UP045
    mask: Optional[File] = None  # noqa: UP045


class Numbers(BaseAppInput):
    strength: float = 1.0


class Prompt(BaseAppInput):
    prompt: str = ""


def mapped(model: type[BaseModel], data: bytes, mime: str, **metadata: str) -> AppInput:
    return app_input(model.model_json_schema(), Item(data, mime), metadata, service="draw", limits=LIMITS)


def test_json_is_the_input_as_it_is_and_metadata_adds_nothing() -> None:
    given = {"prompt": "x", "unknown": [1, {"a": None}]}
    assert mapped(Everything, msgspec.json.encode(given), "application/json", strength="2") == AppInput(given)


@pytest.mark.parametrize("data", [b"", b"{", b'"text"', b"[1]", b"\xff", b'{"a":"\xff"}', b"[" * 100_000])
def test_json_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidField, match="payload"):
        mapped(Everything, data, "application/json")


def test_json_is_limited_in_its_bytes_and_its_values() -> None:
    """As the input of a task is that comes without the service."""
    with pytest.raises(BodyTooLarge, match="payload: JSON for an app may have 200000 bytes; this has 200013"):
        mapped(Everything, b'{"prompt":"%b"}' % (b"x" * 200_000), "application/json")
    with pytest.raises(BodyTooLarge, match=r"payload: it has too many values: .* at most 1000"):
        app_input({}, Item(b"[%b1]" % (b"1," * 1000), JSON), {}, service="draw", limits=PayloadLimits(1000, 200_000))


def test_text_goes_into_the_first_field_of_type_string() -> None:
    assert mapped(Prompt, "é".encode(), "text/plain") == AppInput({"prompt": "é"})
    assert mapped(Prompt, b"\xff", "text/markdown").fields == {"prompt": "\ufffd"}


def test_other_payloads_are_files_of_the_first_field_for_files() -> None:
    for mime in ("image/png", "application/octet-stream", "audio/wav"):
        assert mapped(Everything, b"x", mime) == AppInput({}, "image")


def test_a_payload_that_is_no_text_is_a_file_whose_uri_a_text_field_holds() -> None:
    assert mapped(Prompt, b"x", "image/png") == AppInput({}, "prompt")


def test_text_is_a_file_where_no_field_takes_text() -> None:
    class Document(BaseAppInput):
        document: File

    assert mapped(Document, b"x", "text/plain") == AppInput({}, "document")


def test_metadata_takes_the_fields_of_its_names_first() -> None:
    given = mapped(Everything, b"hello", "text/plain", mode="good", prompt="p", other="dropped")
    assert given == AppInput({"mode": "good", "prompt": "p", "note": "hello"})
    assert mapped(Everything, b"x", "image/png", image="https://example.org/a.png").file_field == "mask"


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("strength", "0.5", 0.5),
        ("steps", "7", 7),
        ("steps", "null", None),
        ("steps", "many", "many"),
        ("tags", '["a","b"]', ["a", "b"]),
        ("style", '{"name":"x"}', {"name": "x"}),
        ("prompt", "5", "5"),
        ("note", "null", "null"),
        ("mode", "true", "true"),
    ],
)
def test_metadata_has_the_type_of_its_field_where_it_can(field: str, text: str, value: Any) -> None:
    assert mapped(Everything, b"", "application/octet-stream", **{field: text}).fields[field] == value


def test_a_payload_that_no_field_takes_is_refused_and_an_empty_one_is_none() -> None:
    with pytest.raises(InvalidField, match="draw has no field"):
        mapped(Numbers, b"x", "image/png", strength="2")
    assert mapped(Numbers, b"", "image/png", strength="2") == AppInput({"strength": 2})


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": None},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
        {"properties": {"a": {"$ref": "#/$defs/Missing"}}},
        {"properties": {"a": True}},
    ],
)
def test_schemas_that_say_nothing_or_go_in_circles_take_no_payload(schema: dict[str, Any]) -> None:
    assert app_input(schema, Item(b"", "image/png"), {"b": "1"}, service="draw", limits=LIMITS) == AppInput({})
    with pytest.raises(InvalidField):
        app_input(schema, Item(b"x", "image/png"), {}, service="draw", limits=LIMITS)
