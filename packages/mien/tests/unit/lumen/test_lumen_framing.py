"""Whatever a result holds, every framing carries it."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._frames import Frames, JsonLines
from lumen_client._flows import LumenEvents
from mien.errors import DeadlineExceeded
from mien.http.lumen.response import DEFAULT, FRAMINGS, Framing, error_event, framing_for, result_event
from mien.http.media import parse_accept
from mien.inference.contract import InferResult

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
results = st.builds(
    InferResult,
    data=st.binary(max_size=200),
    mime=texts,
    schema=texts,
    meta=st.dictionaries(texts, texts),
    is_final=st.booleans(),
    seq=st.integers(0, 2**40),
    total=st.integers(0, 2**40),
    offset=st.integers(0, 2**40),
)
framings = pytest.mark.parametrize("framing", [DEFAULT, *FRAMINGS.values()], ids=lambda f: type(f).__name__)


def documented_reader(text: str) -> list[dict[str, Any]]:
    parts = text.split("\n\n")
    parts.pop()
    return [json.loads(part) for part in parts]


def encoded(framing: Framing, messages: list[InferResult], identity: str) -> tuple[list[dict[str, Any]], bytes]:
    events = [result_event(m, number=n, correlation_id=identity, decode=False) for n, m in enumerate(messages)]
    return events, b"".join(framing.heartbeat + framing.encode(event, n) for n, event in enumerate(events))


def parser_of(framing: Framing) -> Frames:
    return JsonLines() if framing.media_type == "application/x-ndjson" else LumenEvents()


@framings
@given(messages=st.lists(results, max_size=5), identity=texts, cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_the_client_reads_what_was_written(
    framing: Framing, messages: list[InferResult], identity: str, cuts: list[int]
) -> None:
    events, wire = encoded(framing, messages, identity)
    parser, found, start = parser_of(framing), [], 0
    for cut in [*sorted(cuts), len(wire)]:
        found += [frame.value for frame in parser.feed(wire[start:cut])]
        start = max(start, cut)
    assert found == events
    for event, message in zip(found, messages, strict=True):
        assert base64.b64decode(event["result_b64"]) == message.data
        assert event["meta"] == message.meta
        assert (event["total"], event["offset"], event["result_mime"]) == (message.total, message.offset, message.mime)


@given(messages=st.lists(results, max_size=5), identity=texts)
def test_the_documented_reader_reads_the_default(messages: list[InferResult], identity: str) -> None:
    events, wire = encoded(DEFAULT, messages, identity)
    assert documented_reader(wire.decode()) == events


@framings
def test_errors_are_final_events(framing: Framing) -> None:
    event = error_event(DeadlineExceeded("too\nlate\n\n"), number=3, correlation_id="c")
    assert [frame.value for frame in parser_of(framing).feed(framing.encode(event, 3))] == [event]
    assert (event["is_final"], event["seq"]) == (True, 3)
    assert event["error"] == {"code": "deadline_exceeded", "message": "too\nlate\n\n"}


@given(st.text(max_size=60))
def test_any_accept_header_has_a_framing(header: str) -> None:
    assert framing_for(parse_accept(header)) in (DEFAULT, *FRAMINGS.values())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("a/b", ["a/b"]),
        ("a/b;q=0.1, c/d", ["c/d", "a/b"]),
        ("A/B; Schema=X ;q=0.5", ["a/b;schema=x"]),
        ("a/b;q=0, c/d;q=x", []),
        (",, ;q=1", []),
    ],
)
def test_accept(header: str, expected: list[str]) -> None:
    assert parse_accept(header) == expected
