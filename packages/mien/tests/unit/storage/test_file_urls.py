"""Signed URLs, their key, and the Range header."""

import hmac
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import Forbidden, InternalError, RangeNotSatisfiable
from mien.http.ranges import parse_range
from mien.storage.media_types import inline
from mien.storage.signing import UrlSigner, load_key


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_signature_is_for_one_method_one_file_and_a_time() -> None:
    clock = Clock()
    signer = UrlSigner(b"k" * 32, clock)
    query = dict(parse_qsl(signer.sign("GET", "file1", 60)))
    signer.check("GET", "file1", query)
    signer.check("HEAD", "file1", query)
    later = {**query, "expires": str(int(query["expires"]) + 1)}
    for method, file_id, given_query in [
        ("PUT", "file1", query), ("GET", "file2", query), ("GET", "file1", later), ("GET", "file1", {}),
        ("GET", "file1", {**query, "signature": query["signature"][:-1] + "0"}),
        ("GET", "file1", {**query, "signature": "é\ud800"}),
    ]:  # fmt: skip
        with pytest.raises(Forbidden):
            signer.check(method, file_id, given_query)
    with pytest.raises(Forbidden):
        UrlSigner(b"j" * 32, clock).check("GET", "file1", query)
    clock.now += 60
    with pytest.raises(Forbidden, match="expired"):
        signer.check("GET", "file1", query)


@given(st.sampled_from(["GET", "PUT"]), st.text(max_size=40), st.text(max_size=20), st.text(max_size=70))
def test_invented_keys_are_rejected(method: str, file_id: str, expires: str, signature: str) -> None:
    with pytest.raises(Forbidden):
        UrlSigner(b"k" * 32, Clock()).check(method, file_id, {"expires": expires, "signature": signature})


def test_the_key_is_generated_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "url.key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["url.key"]
    path.chmod(0o644)
    load_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    with pytest.raises(InternalError, match="damaged"):
        load_key(path)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=50-1000", (50, 100)),
        ("BYTES= 1 - 2 ", (1, 3)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
    ],
)
def test_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 100)


@given(st.text(max_size=30), st.integers(0, 1000))
def test_a_range_lies_within_the_file(text: str, size: int) -> None:
    try:
        found = parse_range("bytes=" + text, size)
    except RangeNotSatisfiable:
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size


def test_active_content_is_never_displayed_inline() -> None:
    assert inline("image/png")
    for kind in ("text/html", "image/svg+xml", "application/xml", "text/xml", "application/pdf", "text/javascript"):
        assert not inline(kind)


def test_a_url_is_for_files_of_one_owner() -> None:
    signer = UrlSigner(b"k" * 32, Clock())
    query = dict(parse_qsl(signer.sign("GET", "file1", 60, "team-a")))
    signer.check("GET", "file1", query)
    assert signer.is_for(query, "team-a")
    assert not signer.is_for(query, "team-b")
    assert not signer.is_for(query, "default")
    assert "team-a" not in str(query)
    other = dict(parse_qsl(signer.sign("GET", "file1", 60, "team-b")))
    for forged in ({**query, "owner": other["owner"]}, {key: query[key] for key in ("expires", "signature")}):
        with pytest.raises(Forbidden):
            signer.check("GET", "file1", forged)


def test_a_url_that_was_signed_before_there_were_owners_is_for_the_default_owner() -> None:
    signer = UrlSigner(b"k" * 32, Clock())
    signature = hmac.new(b"k" * 32, b"GET\nfile1\n1060", "sha256").hexdigest()
    query = {"expires": "1060", "signature": signature}
    signer.check("GET", "file1", query)
    assert signer.is_for(query, "default")
    assert not signer.is_for(query, "team-a")
