import io

import pytest

from ifr_clients._progress import TextBar, length_of, line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (250, 1000, 10, "250/1000   25%  [######                  ]  25.0 images/s  0:30 left"),
        (1000, 1000, 10, "1000/1000  100%  [########################]  100.0 images/s"),
        (7, None, 2, "7 images  3.5 images/s"),
        (1, 100000, 1, "1/100000    0%  [                        ]  1.0 images/s  27:46:39 left"),
        (0, 10, 0, "0/10    0%  [                        ]  0.0 images/s"),
        (0, 0, 1, "0/0  100%  [########################]  0.0 images/s"),
    ],
)
def test_the_line_says_how_far_how_fast_and_how_long(done, total, seconds, text):
    assert line(done, total, seconds) == text


def test_a_terminal_is_redrawn_ten_times_a_second():
    stream, now = Terminal(), [0.0]
    bar = TextBar(stream, lambda: now[0])

    for done in range(100):
        now[0] = done * 0.01
        bar(done, 100)
    bar.finish(100, 100)

    assert 8 <= stream.getvalue().count("\r") <= 12
    assert stream.getvalue().endswith("\n")


def test_a_log_gets_one_line():
    stream = io.StringIO()
    bar = TextBar(stream)

    for done in range(100):
        bar(done, 100)
    bar.finish(100, 100)

    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()


def test_lengths_are_told_where_there_are_any():
    assert length_of([1, 2]) == 2
    assert length_of(iter([1, 2])) is None
