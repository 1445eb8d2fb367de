"""MessagePack of callers as plain values."""

import codecs
from typing import Any

import msgspec

from mien.decode.budget import Limits
from mien.decode.count_msgpack import LENGTHS, MsgpackPass
from mien.decode.long_texts import PIECE, TOKEN, Span, TextBudget, copied, is_ascii, put_back, without
from mien.errors import RequestError

_BINARY = (0xC4, 0xC5, 0xC6)


def msgpack_value(body: bytes, limits: Limits) -> Any:
    """The value of a MessagePack document. A long text of ASCII is a memoryview of `body`.

    Raises RequestError, BodyTooLarge.
    """
    scan = MsgpackPass(body, limits)
    scan.run()
    if scan.end < len(body):
        raise RequestError(f"the body is not valid MessagePack: {len(body) - scan.end} bytes follow its value")
    try:
        if not scan.long and len(body) <= PIECE:
            return msgspec.msgpack.decode(body)
        stand_ins = [msgspec.msgpack.encode(f"{TOKEN}{number}") for number in range(len(scan.long))]
        cuts = zip((span for span, _ in scan.long), stand_ins, strict=True)
        value, budget = msgspec.msgpack.decode(without(body, 0, cuts)), TextBudget()
        return put_back(value, [_long(body, span, byte, budget) for span, byte in scan.long])
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise RequestError(f"the body is not valid MessagePack: {error}") from None


def _long(body: bytes, whole: Span, byte: int, budget: TextBudget) -> bytes | str | memoryview:
    span = whole[0] + 1 + LENGTHS[byte], whole[1]
    if byte in _BINARY:
        return copied(body, span)
    if is_ascii(body, span):
        return memoryview(body)[slice(*span)]
    budget.spend(span[1] - span[0])
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = [
        decoder.decode(body[at : min(span[1], at + PIECE)], final=at + PIECE >= span[1]) for at in range(*span, PIECE)
    ]
    return "".join(pieces)
