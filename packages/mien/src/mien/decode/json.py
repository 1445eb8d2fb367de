"""JSON of callers as plain values."""

import codecs
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from mien.decode.budget import Limits
from mien.decode.count_json import SMALL, WINDOW, check_json
from mien.decode.long_texts import PIECE, TOKEN, Span, TextBudget, is_ascii, put_back, without
from mien.errors import RequestError

LONG = WINDOW
"""Bytes from which a text is long; the pass finds all that are."""
_BOM = codecs.BOM_UTF8
_OTHER_UNICODE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FIRST_OF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_INVALID = (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError)


def json_value(body: bytes, limits: Limits) -> Any:
    """The value of a JSON document in UTF-8, with or without a BOM.

    In documents over SMALL a long text of ASCII without escapes, such as base64, is a memoryview of `body`. Raises
    RequestError, BodyTooLarge.
    """
    start = _start(body, limits)
    spans = check_json(body, limits, start)
    try:
        if len(body) - start <= SMALL:
            return msgspec.json.decode(memoryview(body)[start:] if start else body)
        spans = [span for span in spans if span[1] - span[0] >= LONG]
        stand_ins = [orjson.dumps(f"{TOKEN}{number}")[1:-1] for number in range(len(spans))]
        rest = without(body, start, zip(spans, stand_ins, strict=True))
        value, budget = msgspec.json.decode(rest), TextBudget()
        return put_back(value, [_long_text(body, span, budget) for span in spans]) if spans else value
    except _INVALID as error:
        raise RequestError(f"{limits.noun} is not valid JSON: {_reason(error, body)}") from None


def json_object(body: bytes, limits: Limits) -> dict[str, Any]:
    """A JSON object, parsed in one go: for bodies of a few megabytes at most. An empty body is an empty object.

    Integers beyond 64 bits become floats, which the store and all clients can hold. Raises RequestError, BodyTooLarge.
    """
    start = _start(body, limits)
    if not body or body.isspace() or start == len(body):
        return {}
    check_json(body, limits, start)
    try:
        value = orjson.loads(memoryview(body)[start:] if start else body)
    except _INVALID as error:
        raise RequestError(f"{limits.noun} is not valid JSON: {_reason(error, body)}") from None
    if not isinstance(value, dict):
        raise RequestError(f"{limits.noun} is {kind_of(value)}; expected a JSON object")
    return value


def kind_of(value: Any) -> str:
    """The kind of a decoded value, in the terms of JSON."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a map"}
    return names.get(type(value), "a string" if isinstance(value, str | memoryview) else "binary data")


def _start(body: bytes, limits: Limits) -> int:
    """Where the document begins, after a BOM. Raises RequestError for UTF-16 and UTF-32."""
    if body.startswith(_OTHER_UNICODE) or b"\0" in body[:4]:
        raise RequestError(f"{limits.noun} is not valid JSON: it is UTF-16, UTF-32 or binary; JSON is sent in UTF-8")
    return len(_BOM) if body.startswith(_BOM) else 0


# --- long texts


def _long_text(body: bytes, span: Span, budget: TextBudget) -> str | memoryview:
    if is_ascii(body, span, without=b"\\"):
        return memoryview(body)[slice(*span)]
    found: list[str] = []
    for piece in _pieces(body, span):
        text: str = msgspec.json.decode(b'"%b"' % piece, type=str)
        if not text.isascii():
            budget.spend(span[1] - span[0] if all(map(str.isascii, found)) else 0)
        found.append(text)
    return "".join(found)


def _pieces(body: bytes, span: Span) -> Iterator[bytes]:
    """A text in pieces that end neither within a character nor within an escape or a pair of them."""
    begin, end = span
    while begin < end:
        piece = body[begin : min(end, begin + PIECE)]
        if begin + len(piece) < end:
            piece = piece[: _cut(piece)]
        yield piece
        begin += len(piece)


def _cut(piece: bytes) -> int:
    """The last offset of a piece, over 0, at which it may end; anything for what is no text."""
    at = len(piece)
    last = piece.replace(b"\\\\", b"__").rfind(b"\\", at - len("\\udddd\\udddd"))
    if last > 0:
        return last - 6 if _FIRST_OF_PAIR.fullmatch(piece[last - 6 : last]) else last
    if piece.endswith(b"\\\\"):  # whether another one precedes them or not
        return at
    while at > 1 and piece[at - 1] >= 0x80:  # what precedes the last character beyond ASCII
        at -= 1
        if piece[at] >= 0xC0:
            return at
    return at


# --- words for what is no JSON


def _reason(error: Exception, body: bytes) -> str:
    """The parser's words, except for the mistakes that parsers take for others."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(body), PIECE):
            decoder.decode(body[at : at + PIECE], final=at + PIECE >= len(body))
    except UnicodeDecodeError as wrong:
        return f"it is not UTF-8 ({wrong.reason})"
    beginning = body[:PIECE]
    for match in _SURROGATES.finditer(beginning) if b"\\ud" in beginning.lower() else ():
        if match[1]:
            return f"a text contains the unpaired surrogate {match[1].decode()}"
    return str(error)
