"""The parser of `POST /v1/infer` takes what the OpenAPI document says, and refuses what it does not say."""

import dataclasses
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from mien.errors import InvalidField
from mien.http.lumen.request import PAYLOAD, Envelope, parse
from mien.http.lumen.schema import InferBody, InferFields
from mien.http.media import JSON
from mien.http.openapi.components import Components
from mien.settings import Limits

FIELDS = InferBody.__struct_fields__
LIMITS = Limits()
values = st.one_of(
    st.none(), st.booleans(), st.integers(-300, 300), st.floats(0.25, 0.75), st.sampled_from(["", "aGk=", "aGkh"])
)
anything = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=3)


def documented() -> Draft202012Validator:
    components = Components()
    return Draft202012Validator({**components.of(InferBody), "components": {"schemas": components.schemas}})


def parsed(body: dict[str, Any]) -> Envelope | None:
    try:
        return parse(orjson.dumps(body), JSON, {}, LIMITS)
    except InvalidField:
        return None


DOCUMENTED = documented()


@given(bodies)
def test_a_body_is_taken_if_and_only_if_the_document_allows_it(body: dict[str, Any]) -> None:
    envelope = parsed(body)
    without_nulls = {name: value for name, value in body.items() if value is not None}  # null: as if it were not there
    if "metadata" in without_nulls:
        without_nulls.pop("meta", None)  # is not read beside it
    assert (envelope is not None) == DOCUMENTED.is_valid(without_nulls)
    if envelope is not None:
        for name in ("service", "task", "payload_mime", "correlation_id"):
            assert getattr(envelope, name) == without_nulls.get(name, "")
        assert envelope.metadata == without_nulls.get("metadata", without_nulls.get("meta"))


def test_every_encoding_documents_the_same_fields() -> None:
    parsed_fields = {field.name for field in dataclasses.fields(Envelope)} - {"payloads"}
    assert set(FIELDS) == parsed_fields | {PAYLOAD, "meta"}
    assert set(InferFields.__annotations__) == parsed_fields
