"""JSON and MessagePack of callers: counted before they are parsed, and parsed to what the parsers alone would make."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.decode.budget import CONTAINER_COSTS, TEXT_COSTS, Limits
from mien.decode.count_json import WINDOW, check_json
from mien.decode.count_msgpack import MsgpackPass
from mien.decode.json import json_object, json_value
from mien.decode.long_texts import MAX_TEXT
from mien.decode.msgpack import msgpack_value
from mien.errors import BodyTooLarge, RequestError

MiB = 1024 * 1024
LIMITS = Limits(500_000)
TEXTS = st.text() | st.text('"\\[]{},:/u', max_size=20)
MARKS = [b'"', b"\\", b"[", b"{", b",", b"1", b"\x90", b"\xdd"]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=40,
)


def costs(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + CONTAINER_COSTS + sum(costs(key) + costs(item) for key, item in value.items())
    if isinstance(value, list):
        return 1 + CONTAINER_COSTS + sum(map(costs, value))
    return 1 + TEXT_COSTS * isinstance(value, str | bytes)


def empty(value: Any) -> int:
    """Lists and maps without entries, for which the pass over JSON counts one entry."""
    inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return (isinstance(value, dict | list) and not value) + sum(map(empty, inner))


def depth(value: Any) -> int:
    inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def within(check: Any, *limits: int) -> bool:
    try:
        check(Limits(*limits))
    except RequestError:
        return False
    return True


# --- counting


@given(VALUES, st.booleans())
def test_json_is_counted_exactly_whatever_its_texts_contain(value: Any, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode()
    expected, levels = costs(value) + empty(value), depth(value)
    assert within(lambda limits: check_json(body, limits), expected, max(1, levels))
    assert not within(lambda limits: check_json(body, limits), expected - 1, max(1, levels))
    assert levels == 0 or not within(lambda limits: check_json(body, limits), expected, levels - 1)


@given(VALUES)
def test_messagepack_is_counted_exactly(value: Any) -> None:
    body = ormsgpack.packb(value)
    expected, levels = costs(value), depth(value)
    assert within(lambda limits: MsgpackPass(body, limits).run(), expected, max(1, levels))
    assert not within(lambda limits: MsgpackPass(body, limits).run(), expected - 1, max(1, levels))
    assert levels == 0 or not within(lambda limits: MsgpackPass(body, limits).run(), expected, levels - 1)


@pytest.mark.parametrize("shift", range(5))
@pytest.mark.parametrize("unit", ['a"', "\\", '\\"', "x\\\\", "☃", "[{,:"])
def test_texts_may_end_anywhere_in_a_window(unit: str, shift: int) -> None:
    value = ["x" * shift, unit * (3 * WINDOW // len(unit)), {"k": unit * WINDOW}, [1]] * 2
    body = json.dumps(value, ensure_ascii=False).encode()
    assert within(lambda limits: check_json(body, limits), costs(value), 2)
    assert not within(lambda limits: check_json(body, limits), costs(value) - 1, 2)
    assert json_object(b'{"a":%b}' % body, LIMITS) == {"a": value}


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b'"', b"\\", b"[", b"{", b",", b"1", b"\x90", b"\xdd"])).map(b"".join)
)
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for decode in (json_value, json_object, msgpack_value):
        with contextlib.suppress(RequestError):
            decode(body, LIMITS)


def numbers(packed: bytes) -> bytes:
    return b"\xdd" + (10_000).to_bytes(4, "big") + packed * 10_000


@pytest.mark.parametrize(
    "packed",
    [b"\x01", b"\xff", b"\xca1234", b"\xcb12345678", b"\xcc1", b"\xcd12", b"\xce1234", b"\xd312345678", b"\xc0"],
)
def test_arrays_of_numbers_are_counted_in_runs(packed: bytes) -> None:
    body = numbers(packed)
    assert within(lambda limits: MsgpackPass(body, limits).run(), 10_003)
    assert not within(lambda limits: MsgpackPass(body, limits).run(), 10_002)
    with pytest.raises(RequestError, match="ends within a value"):
        msgpack_value(body[:-1], LIMITS)


# --- hostile documents


def hostile() -> Iterator[tuple[str, bytes, str]]:
    yield "json", b"[" + b"1," * MiB, "too many values"
    yield "json", b"[" + b"[]," * MiB, "too many values"
    yield "json", b"[" + b'"",' * MiB, "too many values"
    yield "json", b"{" + b'"a":1,' * MiB, "too many values"
    yield "json", b'"' * MiB, "too many values"
    yield "json", b"[" * MiB, "nested more than 64 levels"
    yield "json", b'{"a":' * MiB, "nested more than 64 levels"
    yield "json", b"1" * MiB, "not valid JSON"
    yield "json", b'["' + b"\\" * (MiB + 1), "not valid JSON"
    yield "json", b'["' + b"\x80" * MiB + b'"]', "not UTF-8"
    yield "json", b'["' + rb"\ud83d" * MiB + b'"]', r"unpaired surrogate \\ud83d"
    yield "json", b" " * (MAX_TEXT + 1) + b"{}", "beside its long texts"
    yield "json", b'["' + "☃".encode() * (MAX_TEXT // 3 + 1) + b'"]', "not ASCII"
    yield "msgpack", b"\xdd\x00\xff\xff\xff" + b"\x90" * (16 * MiB), "too many values"
    yield "msgpack", b"\xdf\x00\x70\x00\x00" + b"\xa1a\x01" * (5 * MiB), "too many values"
    yield "msgpack", b"\x91" * MiB, "nested more than 64 levels"
    for lying in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"):
        yield "msgpack", lying + b"\xff" * 4, "ends within a value"
    yield "msgpack", b"\x90" * MiB, "bytes follow its value"
    yield "msgpack", b"\xc1", "begins with 0xc1"
    for key in (
        b"\xcd\x01\x01",
        b"\x92\x01\x02",
        b"\x80",
        b"\xcb" + bytes(8),
        b"\xc4\x01a",
        b"\xd6\xff" + bytes(4),
        b"\xc0",
    ):
        yield "msgpack", b"\x92\x01\x82\xa1a\x91\x81\xa1b\x01" + key + b"\x01", "string keys"
    yield "msgpack", b"\xdb\x01\x00\x00\x01" + b"\xc3\xa9" * (8 * MiB) + b"x", "not ASCII"


def test_a_hostile_document_is_refused_with_what_is_wrong() -> None:
    for kind, body, words in hostile():
        with pytest.raises(RequestError, match=words):
            (json_value if kind == "json" else msgpack_value)(body, LIMITS)


def test_too_many_values_are_no_malformed_request() -> None:
    with pytest.raises(BodyTooLarge, match="MIEN_MAX_VALUES"):
        json_value(b"[1,2,3,4]", Limits(5))


# --- what is read


def test_utf_8_is_read_with_and_without_a_bom_and_utf_16_is_named() -> None:
    assert json_value(b'\xef\xbb\xbf{"a": 1}', LIMITS) == json_object(b'\xef\xbb\xbf{"a": 1}', LIMITS) == {"a": 1}
    assert json_object(b"\xef\xbb\xbf", LIMITS) == json_object(b" \n", LIMITS) == {}
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"):
        with pytest.raises(RequestError, match="UTF-16, UTF-32 or binary"):
            json_value('{"a": 1}'.encode(encoding), LIMITS)


@pytest.mark.parametrize("text", ["x", '\\"', "☃", "😀", "\n", "é", "a\\", "😀x"])
@pytest.mark.parametrize("escaped", [True, False])
def test_long_texts_are_read_in_pieces(text: str, escaped: bool) -> None:
    for shift in range(12):
        value = {"a": ["s" * shift + text * (MiB // len(text))], "b": text, "c": None}
        body = json.dumps(value, ensure_ascii=escaped).encode()
        found = json_value(body, LIMITS)
        found["a"] = [str(item, "ascii") if isinstance(item, memoryview) else item for item in found["a"]]
        assert found == value


def test_base64_of_large_documents_is_not_copied() -> None:
    value = {"images": {"data": ["QUJD" * MiB, "short"]}}
    for body, decode in ((json.dumps(value).encode(), json_value), (ormsgpack.packb(value), msgpack_value)):
        long, short = decode(body, LIMITS)["images"]["data"]
        assert isinstance(long, memoryview)
        assert long.obj is body
        assert (bytes(long), short) == (b"QUJD" * MiB, "short")


def test_long_values_of_messagepack_keep_their_types() -> None:
    value = {"binary": b"\x00\xff" * MiB, "text": "ä" * MiB, "small": [1, "x", b"y"], "\x01": "\x01"}
    assert msgpack_value(ormsgpack.packb(value), LIMITS) == value


def test_a_name_cannot_be_longer_than_a_document_that_is_parsed_in_one_go() -> None:
    for body, decode in (
        (b'{"%b": 1}' % (b"x" * 2 * MiB), json_value),
        (ormsgpack.packb({"x" * 2 * MiB: 1}), msgpack_value),
    ):
        with pytest.raises(RequestError, match="name in the body"):
            decode(body, LIMITS)


def test_keys_of_equal_hashes_are_refused_before_a_map_is_built() -> None:
    # The two numbers have one hash, and so have all tuples of either.
    numbers_of_one_hash = [b"\x01", b"\xcf" + (2**61).to_bytes(8, "big")]
    keys = [b"\x9d" + b"".join(numbers_of_one_hash[number >> bit & 1] for bit in range(13)) for number in range(2**13)]
    assert hash(1) == hash(2**61)
    with pytest.raises(RequestError, match="neither text nor"):
        msgpack_value(b"\xde\x20\x00" + b"".join(key + b"\x01" for key in keys), LIMITS)


@given(VALUES)
def test_decoding_changes_no_value(value: Any) -> None:
    body = json.dumps(value).encode()
    assert json_value(body, LIMITS) == msgspec.json.decode(body)
    packed = ormsgpack.packb(value)
    assert msgpack_value(packed, LIMITS) == msgspec.msgpack.decode(packed)
