"""The pass over MessagePack: follows the headers of values, and skips what is between them.

A loop in Python, so that the interpreter lock is given away every few milliseconds; it ends at the limit.
"""

from mien.decode.budget import CONTAINER_COSTS, TEXT_COSTS, Limits
from mien.decode.long_texts import Span
from mien.errors import RequestError

LONG = 1024 * 1024
"""Bytes from which a text or binary is long."""
RUN = 4096
"""Most scalars of one type that are skipped in one go: arrays of numbers are long."""
FEW = 8
_SCALARS = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9}
_SCALARS |= dict.fromkeys((*range(128), *range(224, 256)), 1)
_SCALARS |= {first + power: 1 + 2**power for first in (0xCC, 0xD0) for power in range(4)}
_TEXTS = {0xA0 + size: 1 + size for size in range(32)} | {0xD4 + power: 2 + 2**power for power in range(5)}
_SIZES = [(_SCALARS | _TEXTS).get(byte, 0) for byte in range(256)]
"""By first byte: the bytes of a value with its header, 0 where a length or number of entries says it."""
_COSTS = [1 + TEXT_COSTS * (byte in _TEXTS) for byte in range(256)]
_ONE_BYTE = bytes(byte for byte, size in _SCALARS.items() if size == 1)
LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4}
"""Bytes of the length of a text, binary or extension."""
_EXTENSIONS = (0xC7, 0xC8, 0xC9)
_COUNTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the number of entries, and values per entry."""
_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_KEYS = frozenset((*range(128), *range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB, *range(224, 256)))
"""First bytes of texts, whose hashes are keyed, and of one-byte integers, which are few. Other numbers, and tuples of
them as which lists become keys, can be chosen with equal hashes: building the map is then quadratic."""


class MsgpackPass:
    """One pass over a document. Its results are there once `run` has returned."""

    def __init__(self, body: bytes, limits: Limits) -> None:
        self._body = body
        self._limits = limits
        self.end = 0
        """Offset after the document's value, which may be followed by more."""
        self.long: list[tuple[Span, int]] = []
        """Long texts and binaries, headers included: where, and the first byte."""

    def run(self) -> None:
        """Raises BodyTooLarge and RequestError, also for lengths that reach beyond the body: parsers allocate them."""
        body, limits, size_of, cost_of = self._body, self._limits, _SIZES, _COSTS
        at, left, values, in_map = 0, 1, 0, False
        outer: list[tuple[int, bool]] = []  # of each list or map around: values left, and whether it is a map
        try:
            while True:
                while not left:
                    if not outer:
                        self.end = at
                        return
                    left, in_map = outer.pop()
                byte = body[at]
                if in_map and not left & 1 and byte not in _KEYS:
                    raise RequestError(
                        f"{limits.noun} has a map whose key, its byte {at}, is neither text nor a one-byte integer; "
                        "maps need string keys"
                    )
                left -= 1
                if size := size_of[byte]:
                    at += size
                    values += cost_of[byte]
                    if left >= FEW and not in_map and byte in _SCALARS and (more := _run(body, at, byte, size, left)):
                        at, left, values = at + more * size, left - more, values + more
                elif (entries := _entries(body, at, byte)) is not None:
                    count, header = entries
                    at, values = at + header, values + 1 + CONTAINER_COSTS
                    if count > len(body) - at:
                        raise _ends_early()
                    outer.append((left, in_map))
                    left, in_map = count, byte in _MAPS
                    if len(outer) > limits.depth:
                        raise limits.too_deep()
                else:
                    at += self._text(at, byte)
                    values += 1 + TEXT_COSTS
                if values > limits.values:
                    raise limits.too_many()
                if at > len(body):
                    raise _ends_early()
        except IndexError:
            raise _ends_early() from None

    def _text(self, at: int, byte: int) -> int:
        """Bytes of the text, binary or extension with its header."""
        if (width := LENGTHS.get(byte)) is None:
            raise RequestError(
                f"{self._limits.noun} is not valid MessagePack: no value begins with 0x{byte:02x}, its byte {at}"
            )
        size = 1 + width + (byte in _EXTENSIONS) + _number(self._body, at + 1, width)
        if size >= LONG and byte not in _EXTENSIONS:
            self.long.append(((at, at + size), byte))
        return size


def _run(body: bytes, at: int, byte: int, size: int, left: int) -> int:
    """How many scalars of that kind follow."""
    like = _ONE_BYTE if size == 1 else bytes((byte,))
    if body[at : at + FEW * size : size].lstrip(like):
        return 0
    heads = body[at : at + min(left, RUN) * size : size]
    return min(len(heads) - len(heads.lstrip(like)), (len(body) - at) // size)


def _entries(body: bytes, at: int, byte: int) -> tuple[int, int] | None:
    """The number of values in a list or map and the bytes of its header; None for anything else."""
    if 0x80 <= byte < 0x90:
        return 2 * (byte & 15), 1
    if 0x90 <= byte < 0xA0:
        return byte & 15, 1
    if (found := _COUNTS.get(byte)) is None:
        return None
    width, per_entry = found
    return per_entry * _number(body, at + 1, width), 1 + width


def _number(body: bytes, at: int, width: int) -> int:
    if at + width > len(body):
        raise _ends_early()
    return int.from_bytes(body[at : at + width], "big")


def _ends_early() -> RequestError:
    return RequestError("the body is not valid MessagePack: it ends within a value")
