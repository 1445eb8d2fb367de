"""JSON that is encoded once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.encoded import NULL, Encoded
from mien.errors import RequestError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_the_value_comes_back_with_its_fields_in_order(value: object) -> None:
    encoded = Encoded.of(value)
    assert encoded.value == value
    assert json.dumps(json.loads(encoded.text)) == json.dumps(value)
    assert encoded.size == len(encoded.text.encode())
    assert Encoded.of(encoded.value) == encoded


def test_null_is_what_none_is_encoded_as() -> None:
    assert Encoded.of(None) == NULL


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800", {1: 2}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(RequestError, match="JSON"):
        Encoded.of(value)
