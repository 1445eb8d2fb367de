"""The codec: any message, split anywhere, is decoded unchanged; anything else is rejected."""

import asyncio
import dataclasses
import json
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsh._kernel import codec, protocol
from infsh._kernel.channel import AsyncChannel, Channel
from infsh._kernel.codec import Codec, decode, encode
from infsh._kernel.protocol import Cancel, Done, EncodedJson, Log, Ping, ProtocolError, Run, Setup, Unload

LINK, ABSENT, FOLDER = (f"{digit * 32}.json" for digit in "abc")
DOCUMENT = Path(__file__).parents[4] / "docs" / "apps-protocol.md"

TEXT = st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
BY_KIND = {
    str: TEXT, int: st.integers(), bool: st.booleans(), float: st.floats(allow_nan=False, allow_infinity=False),
    dict: st.dictionaries(TEXT, JSON, max_size=4), list: st.lists(TEXT, max_size=4), type(None): st.none(),
}  # fmt: skip


def fields_of(cls):
    kinds = codec._FIELDS[cls]
    return {name: st.one_of([BY_KIND.get(kind, JSON) for kind in found]) for name, (found, _) in kinds.items()}


MESSAGES = st.one_of([st.builds(cls, **fields_of(cls)) for cls in protocol.MESSAGES.values()])


@given(st.lists(MESSAGES, max_size=5), st.data())
def test_messages_survive_any_cut(messages, data):
    codec = Codec()
    stream = b"".join(codec.frame(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += codec.feed(stream[start:end])
    assert found == messages
    assert codec.empty


@given(MESSAGES, st.dictionaries(st.text(min_size=1).map("x-".__add__), JSON, max_size=3))
def test_unknown_keys_are_skipped(message, extra):
    assert decode(json.dumps(json.loads(encode(message)) | extra).encode()) == message


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_protocol_error(data):
    try:
        list(Codec().feed(struct.pack(">I", len(data)) + data))
    except ProtocolError:
        return


def test_an_unknown_type_is_skipped():
    assert decode(b'{"type": "from the future", "x": 1}') is None
    unknown = b'{"type":"new"}'
    frames = struct.pack(">I", len(unknown)) + unknown + Codec().frame(Ping())
    assert list(Codec().feed(frames)) == [Ping()]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"nonsense", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "`type`"),
        (b'{"type": "run"}', "lacks `run_id`"),
        (b'{"type": "run", "run_id": 5}', "`run.run_id` must be str, not int"),
        (b'{"type": "run", "run_id": "a", "metadata": []}', "`run.metadata` must be dict"),
        (b'{"type": "cancel", "run_id": "a", "grace": true}', "`cancel.grace` must be float"),
        (b'{"type": "cancel", "run_id": "a", "grace": NaN}', "`cancel.grace` must be float"),
        (b'{"type": "loaded", "functions": [1], "schemas": {}}', "only strings"),
    ],
)
def test_an_invalid_message_is_rejected_with_the_reason(body, said):
    with pytest.raises(ProtocolError, match=said.replace("[", r"\[")):
        decode(body)


def test_a_whole_number_is_a_number_of_seconds():
    assert decode(b'{"type": "cancel", "run_id": "a", "grace": 3}') == protocol.Cancel("a", 3.0)


def test_what_is_not_json_cannot_be_sent():
    with pytest.raises(ProtocolError, match="cannot be sent as JSON"):
        encode(Done(run_id="a", output=float("nan")))
    with pytest.raises(ProtocolError, match="cannot be sent as JSON"):
        encode(Done(run_id="a", output=object()))


def test_a_frame_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(ProtocolError, match="is over"):
        list(Codec().feed(struct.pack(">I", codec.MAX_FRAME_BYTES + 1)))


def test_long_messages_travel_as_files(tmp_path: Path):
    message = Run(run_id="a", input="x" * (2 << 20))
    frame = Codec(tmp_path).frame(message)
    assert len(frame) < 300
    assert next(Codec().frames(frame))[1:] == ("run", "a")
    assert list(Codec(tmp_path).feed(frame)) == [message]
    assert list(tmp_path.iterdir()) == []


def test_without_a_spill_directory_long_messages_are_refused():
    with pytest.raises(ProtocolError, match="is over"):
        Codec().frame(Run(run_id="a", input="x" * (17 << 20)))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "..", "a\0b", 5, None, LINK, ABSENT, FOLDER])
def test_a_spilled_message_is_read_from_its_directory_only(name, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text('{"type": "ping"}')
    spill = tmp_path / "spill"
    spill.mkdir()
    (spill / LINK).symlink_to(secret)
    (spill / FOLDER).mkdir()
    body = json.dumps({"type": "spilled", "name": name}).encode()
    with pytest.raises(ProtocolError):
        list(Codec(spill).feed(struct.pack(">I", len(body)) + body))
    assert secret.exists()


def test_a_channel_is_bidirectional():
    ours, theirs = socket.socketpair()
    left, right = Channel(ours), Channel(theirs)
    left.send(Log(line="é\ud800"))
    left.send(Ping())
    assert [right.receive(), right.receive()] == [Log(line="é\ud800"), Ping()]
    theirs.sendall(b"\0\0")
    right.close()
    with pytest.raises(ProtocolError, match="cut within a frame"):
        left.receive()
    left.close()


async def test_an_async_channel_is_bidirectional():
    ours, theirs = socket.socketpair()
    left = AsyncChannel(*await asyncio.open_unix_connection(sock=ours))
    right = AsyncChannel(*await asyncio.open_unix_connection(sock=theirs))
    await left.send(Ping())
    assert await right.receive() == Ping()
    await left.close()
    assert await right.receive() is None
    await right.close()


@pytest.mark.parametrize("cls", protocol.MESSAGES.values(), ids=lambda cls: cls.type)
def test_every_message_and_field_is_documented(cls):
    row = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{cls.type}` |"))
    for field in dataclasses.fields(cls):
        assert f"`{field.name}`" in row


def test_encoded_json_is_inserted_into_a_message_unchanged():
    text = '{"b":1.0,"a":["é",null]}'
    body = encode(Run(run_id="r1", input=EncodedJson(text), metadata={"m": 1}))
    assert text.encode() in body
    assert decode(body) == Run(run_id="r1", input=json.loads(text), metadata={"m": 1})


@pytest.mark.parametrize(
    "message", [Run(run_id="a.1", input={"run_id": "b"}), Cancel(run_id="a.1"), Unload(), Setup({"type": "x"})]
)
def test_of_a_trusted_peer_the_head_of_a_message_tells_what_it_is(message):
    data = Codec().frame(message)
    known = [(data, message.type, getattr(message, "run_id", None))]
    assert list(Codec().frames(data, trusted=True)) == list(Codec().frames(data)) == known


def test_messages_of_a_trusted_peer_that_begin_otherwise_are_read_whole(tmp_path):
    odd = b'{ "run_id": "a", "type": "run" }'
    frame = len(odd).to_bytes(4, "big") + odd
    assert list(Codec().frames(frame, trusted=True)) == [(frame, "run", "a")]
    spilled = Codec(tmp_path).frame(Run(run_id="a", input="x" * (2 << 20)))
    assert list(Codec().frames(spilled, trusted=True)) == [(spilled, "run", "a")]
    with pytest.raises(ProtocolError):
        list(Codec().frames((4).to_bytes(4, "big") + b"null", trusted=True))
