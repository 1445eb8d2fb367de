"""A time that is accepted can be shown; what was stored earlier is shown as well as it can be."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import InvalidField
from mien.http.inferencesh.rendering import EARLIEST, LATEST, rfc3339
from mien.http.inferencesh.submission import read_params, read_time


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00.000000Z"),
        ("2030-01-31T12:00:00.5+02:00", "2030-01-31T10:00:00.500000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
    ],
)
def test_times_are_read_and_shown(value: Any, shown: str) -> None:
    assert rfc3339(read_time("run_at", value)) == shown


@pytest.mark.parametrize(
    "value",
    [
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999999Z",
        "2030-01-31T12:00:00",
        "10000-01-01T00:00:00Z",
        "tomorrow",
        math.nan,
        math.inf,
        -math.inf,
        -1,
        1e12,
        2**63,
        10**400,
        True,
    ],
)
def test_other_values_are_refused_with_what_was_expected(value: Any) -> None:
    with pytest.raises(InvalidField, match=r"^run_at: expected .*; got ") as caught:
        read_time("run_at", value)
    assert len(caught.value.message) < 200


@given(st.one_of(st.datetimes(timezones=st.timezones()).map(datetime.isoformat), st.floats(), st.integers(), st.text()))
def test_whatever_is_accepted_can_be_shown(value: Any) -> None:
    try:
        at = read_time("deadline", value)
    except InvalidField:
        return
    assert at is None or datetime.fromisoformat(str(rfc3339(at))).tzinfo is UTC


@pytest.mark.parametrize("at", [EARLIEST - 86400, LATEST + 86400, 1e300, math.inf, -math.inf])
def test_what_an_earlier_version_stored_does_not_break_an_answer(at: float) -> None:
    assert rfc3339(at) in ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.000000Z")
    assert rfc3339(math.nan) == "0001-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("name", ["run_at", "deadline", "timeout", "session_timeout", "retries", "priority"])
def test_true_and_false_are_no_numbers(name: str) -> None:
    with pytest.raises(InvalidField, match=name):
        read_params({"app": "a/b", name: True})
