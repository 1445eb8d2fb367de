"""Bytes of streams to frames, wherever they are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh import InferenceConnectionError
from inferencesh._frames import Events, JsonLines, frames_of

VALUES = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.none(), min_size=1, max_size=3),
    max_size=6,
).map(lambda values: [value for value in values if value.get("type") != "heartbeat"])


def pieces(data, cuts):
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(VALUES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 400)), st.booleans())
def test_events_are_the_same_wherever_they_are_cut(values, end, cuts, ascii_only):
    data = b""
    for number, value in enumerate(values):
        text = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode("utf-8", "surrogatepass")
        lines = b"".join(b"data: " + line + end for line in text.split(b"\n"))
        data += b": heartbeat" + end + end + b"id: %d" % number + end + b"event: task" + end + lines + end
    parser = Events()

    found = [frame for piece in pieces(data, cuts) for frame in parser.feed(piece)]

    assert [(frame.id, frame.value) for frame in found] == [(str(n), value) for n, value in enumerate(values)]


@given(VALUES, st.lists(st.integers(0, 400)))
def test_json_lines_are_the_same_wherever_they_are_cut(values, cuts):
    data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    parser = JsonLines()

    assert [frame.value for piece in pieces(data, cuts) for frame in parser.feed(piece)] == values


def test_an_event_counts_only_once_it_is_whole():
    parser = Events()

    assert parser.feed(b'id: 1\ndata: {"a": 1}\n') == []
    (frame,) = parser.feed(b"\n")
    assert (frame.id, frame.value) == ("1", {"a": 1})


def test_an_id_stays_until_there_is_another():
    found = Events().feed(b'id: 1\ndata: {"a":1}\n\ndata:{"b":2}\n\nid: x\0y\ndata: {"c":3}\n\n')
    assert [frame.id for frame in found] == ["1", "1", "1"]


def test_heartbeats_are_not_frames():
    assert Events().feed(b': nothing\n\ndata: {"type": "heartbeat"}\n\n') == []
    assert JsonLines().feed(b'\n{"type": "heartbeat"}\n') == []


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff", b"nonsense"])
def test_damage_is_a_broken_connection(text):
    with pytest.raises(InferenceConnectionError, match="the stream is corrupt"):
        Events().feed(b"data: " + text + b"\n\n")


def test_an_event_has_a_largest_size(monkeypatch):
    monkeypatch.setattr("inferencesh._frames.LONGEST_EVENT", 1000)
    parser = Events()
    parser.feed(b"data: " + b"x" * 900)
    with pytest.raises(InferenceConnectionError, match="more than 1000 bytes"):
        parser.feed(b"x" * 200)


def test_the_content_type_decides():
    assert isinstance(frames_of("application/x-ndjson"), JsonLines)
    assert isinstance(frames_of("text/event-stream"), Events)
