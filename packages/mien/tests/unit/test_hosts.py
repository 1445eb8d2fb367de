"""Hosts are parsed and compared in one way, wherever they come from."""

import pytest

from mien.config.origins import parse_origin
from mien.hosts import is_loopback, same_spelling, split_authority


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "a.localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]",
                                  "::ffff:127.0.0.1", "[::FFFF:7f00:1]"])  # fmt: skip
def test_loopback_hosts_can_only_mean_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.", "localhost.example", "127.0.0.1.example", "128.0.0.1", "::",
                                  "::ffff:10.0.0.1", "127.1", "2130706433"])  # fmt: skip
def test_everything_else_may_mean_another(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(("host", "spelling"), [
    ("Faces.Example", "faces.example"), ("[2001:DB8:0::1]", "2001:db8::1"), ("::ffff:10.0.0.1", "10.0.0.1"),
])  # fmt: skip
def test_hosts_that_are_the_same_have_one_spelling(host: str, spelling: str) -> None:
    assert same_spelling(host) == spelling


@pytest.mark.parametrize(("text", "found"), [
    ("Faces.Example", ("faces.example", None)), ("faces.example:80", ("faces.example", 80)),
    ("[::1]:8080", ("::1", 8080)), ("[::1]", ("::1", None)), ("10.0.0.1:1", ("10.0.0.1", 1)),
])  # fmt: skip
def test_an_authority_is_a_host_with_or_without_a_port(text: str, found: tuple[str, int | None]) -> None:
    assert split_authority(text) == found


@pytest.mark.parametrize("text", ["", ":80", "a:b", "a:1:2", "::1", "a b", "user@a", "a/b", "a?b", "a#b", "[x]", "[::1",
                                  "*", "a:123456"])  # fmt: skip
def test_what_is_no_authority_is_none(text: str) -> None:
    assert split_authority(text) is None


@pytest.mark.parametrize(("text", "origin"), [
    ("HTTPS://Faces.Example:443/", "https://faces.example"), ("http://[::1]:8080", "http://[::1]:8080"),
    ("http://a:80", "http://a"), ("https://a:80", "https://a:80"),
])  # fmt: skip
def test_an_origin_is_written_as_browsers_send_it(text: str, origin: str) -> None:
    assert str(parse_origin(text)) == origin


@pytest.mark.parametrize("text", ["", "null", "a", "http://", "ftp://a", "http://a/b", "http://a:0", "http://a:65536",
                                  "http://a@b", "http:a", "http://a//"])  # fmt: skip
def test_what_is_no_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None
