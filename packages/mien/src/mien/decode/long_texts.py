"""Long texts and binaries of a document, apart from the rest.

A parser copies them while it holds the interpreter lock. Here they are cut out before the rest is parsed, converted in
pieces, and put into their places afterwards.
"""

import io
import secrets
from collections.abc import Iterable
from typing import Any

from mien.errors import BodyTooLarge, RequestError

MiB = 1024 * 1024
Span = tuple[int, int]
PIECE = 256 * 1024
"""Bytes that are converted in one go."""
MAX_TEXT = 16 * MiB
"""Bytes of text beyond ASCII, where one character can make a text take four times its size; and of what is parsed in
one go."""
TOKEN = f"\x01{secrets.token_hex(16)}:"
"""Stands for a long text while the rest is parsed; no caller knows it."""


def without(body: bytes, start: int, cuts: Iterable[tuple[Span, bytes]]) -> bytearray:
    """The body from `start` on with each span replaced. Raises BodyTooLarge if that still is too much."""
    rest, at = bytearray(), start
    for (begin, end), stand_in in cuts:
        _require_parsable(len(rest) + begin - at)
        rest += body[at:begin]
        rest += stand_in
        at = end
    _require_parsable(len(rest) + len(body) - at)
    rest += body[at:]
    return rest


def _require_parsable(size: int) -> None:
    if size > MAX_TEXT:
        raise BodyTooLarge(f"beside its long texts the body has more than {MAX_TEXT} bytes, the most that are parsed")


def put_back(value: Any, texts: list[Any]) -> Any:
    """The value with the texts in the places of their tokens. Raises RequestError for a token that is a name."""

    def replaced(item: Any) -> Any:
        if isinstance(item, dict | list):
            waiting.append(item)
        elif isinstance(item, str) and item.startswith(TOKEN):
            return texts[int(item.removeprefix(TOKEN))]
        return item

    waiting: list[dict[Any, Any] | list[Any]] = []
    whole = replaced(value)
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            one[:] = [replaced(item) for item in one]
            continue
        for key, item in one.items():
            if isinstance(key, str) and key.startswith(TOKEN):
                raise RequestError("a name in the body is too long")
            one[key] = replaced(item)
    return whole


def is_ascii(body: bytes, span: Span, *, without: bytes = b"") -> bool:
    """Whether the span is ASCII, and does not contain `without`."""
    begin, end = span
    for at in range(begin, end, PIECE):
        piece = body[at : min(end, at + PIECE)]
        if not piece.isascii() or (without and without in piece):
            return False
    return True


def copied(body: bytes, span: Span) -> bytes:
    """The bytes of the span, copied in pieces."""
    begin, end = span
    copy = io.BytesIO()
    for at in range(begin, end, PIECE):
        copy.write(body[at : min(end, at + PIECE)])
    return copy.getvalue()


class TextBudget:
    """Counts the text beyond ASCII of one document."""

    def __init__(self) -> None:
        self._left = MAX_TEXT

    def spend(self, size: int) -> None:
        """Raises BodyTooLarge."""
        self._left -= size
        if self._left < 0:
            raise BodyTooLarge(f"texts of the body that are not ASCII have more than {MAX_TEXT} bytes")
