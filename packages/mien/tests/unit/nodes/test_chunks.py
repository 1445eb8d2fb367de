"""Cutting and putting together: whatever was cut becomes whole again, whatever does not fit is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import BodyTooLarge
from mien.inference.contract import InferResult
from mien.nodes.chunks import (
    CHUNK_MARK,
    Chunk,
    ChunkError,
    Head,
    InvalidResponse,
    Merger,
    ResultJoiner,
    assemble,
    join_results,
    split,
    split_result,
)

HEAD = Head("task", "text/plain", {"a": "b"})
PAYLOADS = st.binary(max_size=400)
SIZES = st.integers(1, 50)


def merger(**limits: int) -> Merger:
    return Merger(**{"max_bytes": 1_000_000, **limits})


@given(PAYLOADS, st.integers(0, 100), SIZES)
def test_chunks_are_contiguous_and_complete(payload: bytes, threshold: int, size: int) -> None:
    chunks = list(split(payload, threshold=threshold, max_chunk=size))
    assert b"".join(chunk.data for chunk in chunks) == payload
    if len(payload) <= threshold:
        assert chunks == [Chunk(payload)]
        return
    assert all(len(chunk.data) <= size for chunk in chunks)
    assert [chunk.seq for chunk in chunks] == list(range(chunks[0].total))
    assert [chunk.offset for chunk in chunks] == [seq * size for seq in range(len(chunks))]


def test_a_payload_of_exactly_the_threshold_stays_whole() -> None:
    assert len(list(split(b"x" * 10, threshold=10, max_chunk=3))) == 1
    assert len(list(split(b"x" * 11, threshold=10, max_chunk=3))) == 4


def test_chunks_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="max_chunk is 0"):
        list(split(b"abc", threshold=1, max_chunk=0))


@given(st.dictionaries(st.text(max_size=3), PAYLOADS, min_size=1, max_size=5), SIZES, st.randoms())
def test_interleaved_and_shuffled_requests_come_out_whole(
    payloads: dict[str, bytes], size: int, chance: object
) -> None:
    messages = [
        (name, chunk) for name, payload in payloads.items() for chunk in split(payload, threshold=0, max_chunk=size)
    ]
    chance.shuffle(messages)  # type: ignore[attr-defined]
    merge, whole = merger(), {}
    for name, chunk in messages:
        if (done := merge.add(name, HEAD, chunk)) is not None:
            assert done.correlation_id not in whole
            whole[done.correlation_id] = done.payload
    assert whole == payloads
    assert (merge.held, merge.incomplete) == (0, 0)
    merge.require_complete()


@given(PAYLOADS.filter(lambda payload: len(payload) > 1), SIZES, st.data())
def test_a_request_is_complete_with_its_last_chunk_and_not_before(
    payload: bytes, size: int, data: st.DataObject
) -> None:
    chunks = list(split(payload, threshold=0, max_chunk=size))
    if len(chunks) == 1:
        return
    missing = data.draw(st.integers(0, len(chunks) - 1))
    merge = merger()
    for chunk in chunks:
        if chunk.seq != missing:
            assert merge.add("", HEAD, chunk) is None
    with pytest.raises(ChunkError, match=f"seq {missing} is missing"):
        merge.require_complete()
    done = merge.add("", HEAD, chunks[missing])
    assert done is not None
    assert done.payload == payload


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b"]),
            st.binary(max_size=6),
            st.integers(0, 4),
            st.integers(0, 4),
            st.integers(0, 12),
        ),
        max_size=12,
    )
)
def test_any_sequence_either_makes_contiguous_wholes_or_is_refused(
    messages: list[tuple[str, bytes, int, int, int]],
) -> None:
    merge = merger(max_bytes=40)
    sent: dict[str, list[Chunk]] = {}
    try:
        for name, data, seq, total, offset in messages:
            chunk = Chunk(data, seq, total, offset)
            sent.setdefault(name, []).append(chunk)
            done = merge.add(name, HEAD, chunk)
            if done is not None:
                parts = sorted(sent.pop(name), key=lambda part: part.seq)
                assert done.payload == b"".join(part.data for part in parts)
                assert [part.seq for part in parts] == list(range(max(1, total)))
            assert 0 <= merge.held <= 40
    except (ChunkError, BodyTooLarge):
        pass


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (Chunk(b"ab", 0, 2, 0), Chunk(b"cd", 0, 2, 0), "came twice"),
        (Chunk(b"ab", 0, 2, 0), Chunk(b"cd", 1, 3, 2), "total 3, an earlier one 2"),
        (Chunk(b"ab", 0, 2, 0), Chunk(b"cd", 2, 2, 2), "out of range"),
        (Chunk(b"ab", 0, 2, 0), Chunk(b"cd", 1, 2, 1), "overlap"),
        (Chunk(b"ab", 0, 2, 0), Chunk(b"cd", 1, 2, 3), "gap"),
        (Chunk(b"ab", 0, 2, 0), Chunk(b"cd"), "total 0"),
    ],
)
def test_chunks_that_contradict_each_other_are_refused(first: Chunk, second: Chunk, words: str) -> None:
    merge = merger()
    merge.add("id", HEAD, first)
    with pytest.raises(ChunkError, match=words):
        merge.add("id", HEAD, second)


def test_chunks_without_offsets_are_put_in_the_order_of_their_numbers() -> None:
    merge = merger()
    assert merge.add("", HEAD, Chunk(b"cd", 1, 2)) is None
    done = merge.add("", HEAD, Chunk(b"ab", 0, 2))
    assert done is not None
    assert done.payload == b"abcd"


def test_different_tasks_under_one_id_are_refused() -> None:
    merge = merger()
    merge.add("", HEAD, Chunk(b"ab", 0, 2))
    with pytest.raises(ChunkError, match="must be the same"):
        merge.add("", replace(HEAD, task="other"), Chunk(b"cd", 1, 2, 2))


def test_size_is_limited_over_all_requests_of_a_stream() -> None:
    merge = merger(max_bytes=10)
    merge.add("a", HEAD, Chunk(b"x" * 6, 0, 2))
    with pytest.raises(BodyTooLarge, match="limit of 10"):
        merge.add("b", HEAD, Chunk(b"x" * 6, 0, 2))


def test_chunks_and_open_requests_are_limited() -> None:
    with pytest.raises(ChunkError, match="at most 5"):
        merger(max_chunks=5).add("", HEAD, Chunk(b"", 0, 6))
    merge = merger(max_open=2)
    merge.add("a", HEAD, Chunk(b"", 0, 2))
    merge.add("b", HEAD, Chunk(b"", 0, 2))
    with pytest.raises(ChunkError, match="more than 2"):
        merge.add("c", HEAD, Chunk(b"", 0, 2))


RESULT = InferResult(b"x" * 10, "application/json;schema=s", "s", {"k": "v"}, is_final=True, total=1)


@given(PAYLOADS, SIZES, st.booleans())
def test_results_are_cut_and_joined(data: bytes, size: int, final: bool) -> None:
    result = replace(RESULT, data=data, is_final=final, total=0)
    joiner = ResultJoiner(1000)
    done = [whole for part in split_result(result, size) if (whole := joiner.add(part)) is not None]
    assert done == [result]
    assert not joiner.incomplete


def test_only_the_last_chunk_of_a_final_result_is_final() -> None:
    parts = list(split_result(RESULT, 4))
    assert [part.is_final for part in parts] == [False, False, True]
    assert all(part.meta == {"k": "v", CHUNK_MARK: "true"} for part in parts)
    assert assemble(parts) == replace(RESULT, total=0)


def test_unmarked_parts_of_a_stream_pass_as_they_come() -> None:
    part = InferResult(b"part0", total=3)
    assert ResultJoiner(10).add(part) is part


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda parts: parts[:-1], "expected 3 chunks, got 2"),
        (lambda parts: [*parts, parts[0]], "got 4"),
        (lambda parts: [parts[0], parts[0], parts[2]], "each seq"),
        (lambda parts: [parts[0], replace(parts[1], total=4), parts[2]], "totals differ"),
        (lambda parts: [parts[0], replace(parts[1], offset=3), parts[2]], "overlap"),
        (lambda parts: [parts[0], replace(parts[1], schema="t"), parts[2]], "result_schema"),
        (lambda parts: [replace(parts[0], is_final=True), *parts[1:]], "is final"),
    ],
)
def test_chunks_that_make_no_whole_are_refused(change: object, words: str) -> None:
    with pytest.raises(InvalidResponse, match=words):
        join_results(change(list(split_result(RESULT, 4))))  # type: ignore[operator]


def test_the_last_final_message_wins_and_else_the_last() -> None:
    early, final = InferResult(b"early"), InferResult(b"final", is_final=True)
    assert assemble([early, final]).data == b"final"
    assert assemble([early, InferResult(b"later")]) == InferResult(b"later", is_final=True)
    with pytest.raises(InvalidResponse, match="no message arrived"):
        assemble([])


def test_a_result_that_breaks_off_or_grows_without_end_is_refused() -> None:
    parts = list(split_result(RESULT, 4))
    joiner = ResultJoiner(100)
    joiner.add(parts[0])
    with pytest.raises(InvalidResponse, match="broke off"):
        joiner.add(InferResult(b"other"))
    joiner = ResultJoiner(6)
    joiner.add(parts[0])
    with pytest.raises(InvalidResponse, match="over the limit"):
        joiner.add(parts[1])
