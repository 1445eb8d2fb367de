"""Splitting output into lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsh._kernel.lines import MAX_LINE_BYTES, LineSplitter


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])), min_size=1), st.data())
def test_lines_survive_any_cut(lines, data):
    stream = "\n".join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter, found = LineSplitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.feed(stream[start:end])
    assert [*found, *splitter.rest()] == (lines if lines[-1] else lines[:-1])


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (b"10%\r20%\r30%\n", ["30%"]),
        (b"dos\r\n", ["dos"]),
        (b"\n", [""]),
        (b"bad \xff byte\n", ["bad \N{REPLACEMENT CHARACTER} byte"]),
        (b"x" * (MAX_LINE_BYTES + 5) + b"\n", ["x" * MAX_LINE_BYTES, "x" * 5]),
    ],
)
def test_lines_as_a_terminal_shows_them(printed, expected):
    splitter = LineSplitter()
    assert splitter.feed(printed) == expected
    byte_by_byte = LineSplitter()
    assert [line for i in range(len(printed)) for line in byte_by_byte.feed(printed[i : i + 1])] == expected


def test_memory_is_bounded_without_any_newline():
    splitter = LineSplitter()
    lines = [line for _ in range(100) for line in splitter.feed(b"x" * MAX_LINE_BYTES)]
    assert len(lines) >= 99
    bar = LineSplitter()
    for i in range(1000):
        bar.feed(b"\r%d%%" % i)
    assert bar.rest() == ["999%"]
