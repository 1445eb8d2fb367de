import pytest

from mien.apps.reference import AppRef, parse_ref
from mien.errors import RequestError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", AppRef("local", "hello")),
        ("ada/hello", AppRef("ada", "hello")),
        ("ada/hello@latest", AppRef("ada", "hello")),
        ("ada/hello@0a1b2c3d", AppRef("ada", "hello", "0a1b2c3d")),
        ("ada/hello@0a1b2c3d:draw", AppRef("ada", "hello", "0a1b2c3d", "draw")),
        ("hello:draw_all", AppRef("local", "hello", None, "draw_all")),
        ("flux-1.dev", AppRef("local", "flux-1.dev")),
    ],
)
def test_references_are_read(text: str, expected: AppRef) -> None:
    assert parse_ref(text, "local") == expected


@pytest.mark.parametrize("text", [
    "", "/", "a/b/c", "../x", "ada/..", "Ada/hello", "ada/hello@", "ada/hello@xyz", "ada/hello@abc", "ada/hello:",
    "ada/hello:a-b", "a" * 65, "ada/hello\n", ".hidden", "ada/hello@" + "a" * 65,
])  # fmt: skip
def test_what_is_not_a_reference_is_rejected(text: str) -> None:
    with pytest.raises(RequestError, match="is not an app"):
        parse_ref(text, "local")


def test_a_reference_prints_as_it_is_written() -> None:
    assert str(parse_ref("ada/hello@0a1b:draw", "local")) == "ada/hello@0a1b:draw"
