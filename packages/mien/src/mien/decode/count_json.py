"""The pass over JSON: counts values and levels without parsing, in windows short enough for other threads."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.decode.budget import CONTAINER_COSTS, TEXT_COSTS, Limits
from mien.decode.long_texts import Span

WINDOW = 16 * 1024
"""Bytes looked at in one go: some 0.1 ms."""
SMALL = 1024 * 1024
"""Bytes up to which the texts of a document need not be found."""
LONGEST_HOP = 1024 * 1024
"""Bytes searched for a quote in one go."""
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_PLAIN = bytes(set(range(256)) - set(b'"[]{},:'))
_COSTS = np.zeros(256, np.int32)
# Each value or name follows one of these. What opens a list or map also stands for it.
_COSTS[list(b",:")] = 1
_COSTS[list(b"[{")] = 1 + CONTAINER_COSTS
_STEPS = np.zeros(256, np.int32)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def check_json(body: bytes, limits: Limits, start: int = 0) -> list[Span]:
    """The long texts from `start` on, as offsets between their quotes: all of more than a window, of bodies over SMALL.

    For what is no JSON, anything that a parser could build before it notices is counted. Raises BodyTooLarge,
    RequestError.
    """
    if len(body) - start <= SMALL and _surely_within(body, start, limits):
        return []
    values, depth, spans = 1, 0, []
    for marks, span in _marks(body, start):
        if span is not None:
            spans.append(span)
        quotes = marks == _QUOTE
        outside = marks[~(np.logical_xor.accumulate(quotes) | quotes)] if quotes.any() else marks
        values += int(_COSTS[outside].sum()) + TEXT_COSTS * ((int(np.count_nonzero(quotes)) + 1) // 2)
        if values > limits.values:
            raise limits.too_many()
        levels = np.cumsum(_STEPS[outside])
        if len(levels):
            if depth + int(levels.max()) > limits.depth:
                raise limits.too_deep()
            depth += int(levels[-1])
    return spans


def _surely_within(body: bytes, start: int, limits: Limits) -> bool:
    """Whether the limits hold even if all punctuation within texts counted, too: so it is for images in base64."""
    opened = body.count(b"[", start) + body.count(b"{", start)
    if opened > limits.depth:
        return False
    followed = body.count(b",", start) + body.count(b":", start)
    return 1 + followed + (1 + CONTAINER_COSTS) * opened + TEXT_COSTS * body.count(b'"', start) <= limits.values


def _marks(body: bytes, start: int) -> Iterator[tuple[NDArray[np.uint8], Span | None]]:
    """The quotes and punctuation of each window, which begins outside of texts; and the text that reaches beyond it."""
    at = start
    while at < len(body):
        window = _unescaped(body[at : at + WINDOW])
        kept = len(window)
        if window.endswith(b"\\") and at + kept < len(body):
            kept -= 1  # what it escapes is in the next window
        marks = np.frombuffer(window.translate(None, _PLAIN), np.uint8)
        span = None
        if np.count_nonzero(marks == _QUOTE) % 2:
            opened = at + window.rfind(b'"') + 1
            end = _text_end(body, at + kept)
            span, at = (opened, end), end + 1
        else:
            at += kept
        yield marks, span


def _text_end(body: bytes, start: int) -> int:
    """Offset of the quote that ends the text that `start` is in; the body's length if it has none."""
    for at in range(start, len(body), LONGEST_HOP):
        quote = body.find(b'"', at, at + LONGEST_HOP)
        if quote >= 0:
            escaped = quote > start and body[quote - 1] == _BACKSLASH
            return _escaped_text_end(body, start) if escaped else quote
    return len(body)


def _escaped_text_end(body: bytes, start: int) -> int:
    at = start
    while at < len(body):
        window = _unescaped(body[at : at + WINDOW])
        quote = window.find(b'"')
        if quote >= 0:
            return at + quote
        at += len(window) - (window.endswith(b"\\") and at + len(window) < len(body))
    return len(body)


def _unescaped(window: bytes) -> bytes:
    """The window, of the same length, without escaped backslashes and quotes. It begins with no escaped character."""
    return window.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in window else window
