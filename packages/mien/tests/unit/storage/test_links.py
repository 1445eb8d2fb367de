"""References to files of this server: which URLs become one, and that no text of a client does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.settings import Settings
from mien.storage import own_names
from mien.storage.links import Links, file_id, needs_internalizing, quoted_texts, unquoted_texts
from mien.storage.signing import UrlSigner

FILE = "0123456789abcdefghijklmnop"
OTHER = "http://elsewhere.example:8080"


def links_of(**settings: Any) -> Links:
    return Links(UrlSigner(b"k" * 32, lambda: 1000.0), 60.0, Settings(**settings).listening)


def internal(links: Links, url: str, base: str = "http://127.0.0.1:8080") -> str | None:
    """The id of the file, if the URL became a reference."""
    return file_id(links.internalize({"a": [url]}, base)["a"][0])


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:8080", "http://localhost:8080", "http://LOCALHOST.:8080", "http://[::1]:18081",
    "http://127.9.9.9:18081", "http://[::ffff:127.0.0.1]:8080", "https://localhost:8080", "",
])  # fmt: skip
def test_a_server_on_loopback_knows_its_names(url: str) -> None:
    assert internal(links_of(), f"{url}/files/{FILE}/a.txt") == FILE
    assert internal(links_of(), f"{url}/files/{FILE}/a.txt?signature=expired") == FILE
    assert internal(links_of(), f"{url}/deeper/files/{FILE}/a.txt") is None


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:9999", "http://10.0.0.1:8080", OTHER, "http://user@127.0.0.1:8080", "//127.0.0.1:8080",
    "ftp://127.0.0.1:8080", "http://127.0.0.1:99999", "http://127.0.0.1.example:8080", "http://[::1", "http://",
])  # fmt: skip
def test_what_leads_elsewhere_is_no_reference_but_with_a_signature_of_this_server(url: str) -> None:
    links = links_of()
    assert internal(links, f"{url}/files/{FILE}/a.txt") is None
    signed = f"{OTHER}/files/{FILE}/a.txt?{links.signer.sign('GET', FILE, 60)}"
    assert internal(links, signed) == FILE
    assert internal(links, signed[:-1]) is None


def test_a_server_behind_a_proxy_knows_its_public_url_and_the_requests() -> None:
    links = links_of(public_url="https://faces.example/mien/")
    for url in ("https://faces.example/mien", "http://127.0.0.1:8080", "https://other.example/prefix"):
        assert internal(links, f"{url}/files/{FILE}/a.txt", base="https://other.example/prefix") == FILE
    assert internal(links, f"/prefix/files/{FILE}/a.txt", base="https://other.example/prefix") == FILE
    assert internal(links, f"https://faces.example:443/mien/files/{FILE}/a.txt") == FILE
    assert internal(links, f"https://faces.example/files/{FILE}/a.txt") is None
    assert internal(links, f"https://faces.example:8443/mien/files/{FILE}/a.txt") is None


def test_a_server_on_all_addresses_knows_those_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_names.socket, "gethostname", lambda: "Box")
    links, loopback = links_of(host="0.0.0.0"), links_of()  # noqa: S104
    for host in ("box", "localhost", "[::1]", "127.0.0.5"):
        assert internal(links, f"http://{host}:8080/files/{FILE}/a") == FILE
    for host in ("192.0.2.1", "[2001:db8::1]", "other"):
        assert internal(links, f"http://{host}:8080/files/{FILE}/a") is None
    assert internal(loopback, f"http://box:8080/files/{FILE}/a") is None


texts = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"mien-file://(text/){0,3}[a-z0-9]{26}/[a-z.]{1,5}", fullmatch=True),
    st.from_regex(r"(text/)?mien-file:/{0,3}.{0,9}", fullmatch=True),
)
values = st.recursive(
    texts | st.integers(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=50)  # each is a recursive value, which takes long to make
@given(values)
def test_no_text_of_a_client_becomes_a_reference_and_each_comes_back_as_it_was(value: Any) -> None:
    links = links_of()
    kept = links.internalize(value, "http://127.0.0.1:8080")
    assert kept == quoted_texts(value)
    assert not any(file_id(text) for text in _strings(kept))
    assert links.externalize(kept, "http://127.0.0.1:8080", "default") == unquoted_texts(kept) == value


def test_only_texts_that_may_change_are_looked_at() -> None:
    assert needs_internalizing(f'["/files/{FILE}/a"]')
    assert needs_internalizing('["mien-file://"]')
    assert not needs_internalizing('["https://a.example/file"]')


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []
