"""Headers that callers may send along."""

import pytest

from mien.errors import InvalidField
from mien.net.headers import check_headers


def test_ordinary_headers_pass_with_lower_case_names() -> None:
    assert check_headers({"Authorization": "Bearer x", "X-Key": ""}) == {"authorization": "Bearer x", "x-key": ""}
    assert check_headers(None) == {}


@pytest.mark.parametrize("value", [1, None, b"x", ["x"], "a\r\nHost: b", "a\nb", "a\0b", "é€"])
def test_values_that_are_no_header_text_are_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(InvalidField) as caught:
        check_headers({"X-Secret": value})
    assert "X-Secret" in caught.value.message
    assert "Host: b" not in caught.value.message


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "Connection", "a b", "", "x:y", "a\r\nb"]
)
def test_names_that_would_change_the_request_are_refused(name: str) -> None:
    with pytest.raises(InvalidField):
        check_headers({name: "x"})


def test_too_many_headers_are_refused() -> None:
    with pytest.raises(InvalidField, match="65 headers"):
        check_headers({f"x-{n}": "" for n in range(65)})
