"""AV1 streams (AV1 Bitstream & Decoding Process Specification): the size of each frame, as its decoder will see it.

A frame may be larger than its sequence says, so the headers of frames are read, too.
"""

from dataclasses import dataclass

from mien.vision.formats.still import Size, cut_off, too_many

MOST_UNITS = 8192
"""Units (OBUs) in one stream: a frame has up to 4,096 tiles, and each may have a unit of its own."""
MOST_FRAMES = 8
"""In one stream: an image has up to four layers."""
_SEQUENCE = 1
_FRAMES = frozenset({3, 6, 7})
"""Frame header; frame; and redundant header, which a decoder takes for one if it has none."""
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3
_SELECT = 2
"""What a sequence leaves to each frame."""
_ALL = 0xFF


class _Bits:
    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def read(self, count: int) -> int:
        start, self._at = self._at, self._at + count
        first, last = start >> 3, (self._at + 7) >> 3
        if last > len(self._view):
            raise IndexError("a header ends early")
        return int.from_bytes(self._view[first:last], "big") >> (8 * last - self._at) & (1 << count) - 1

    def flag(self) -> bool:
        return self.read(1) == 1

    def variable(self) -> int:
        """`uvlc()`."""
        zeros = 0
        while not self.flag():
            zeros += 1
        return self.read(zeros) + (1 << zeros) - 1 if zeros < 32 else (1 << 32) - 1


@dataclass(slots=True)
class _Sequence:
    """What frames need of a sequence header."""

    reduced: bool = False
    """A still image with the short header."""
    time_bits: int = 0
    """Of the time at which a frame is shown."""
    removal_bits: int = 0
    """Of the time at which a frame leaves the decoder's buffer; 0 without a model of it."""
    timed: tuple[int, ...] = ()
    """Layers of each operating point that has such times."""
    width_bits: int = 0
    height_bits: int = 0
    size: Size = (0, 0)
    id_bits: int = 0
    """Of frame numbers; 0 without them."""
    delta_bits: int = 0
    screen_content: int = _SELECT
    integer_motion: int = _SELECT
    order_bits: int = 0


def frame_sizes(view: memoryview) -> list[Size]:
    """Width and height of each frame. Raises ImageTooLarge for too many, ImageTruncated or IndexError for damage."""
    sequence: _Sequence | None = None
    sizes: list[Size] = []
    at = 0
    for _ in range(MOST_UNITS):
        if at >= len(view):
            return sizes
        kind, layers, start, end = _unit(view, at)
        content = view[start:end]
        if kind == _SEQUENCE:
            sequence = _sequence(_Bits(content))
        elif kind in _FRAMES:
            if sequence is None:
                raise cut_off("AVIF")
            if len(sizes) == MOST_FRAMES:
                raise too_many("AVIF", "frames", MOST_FRAMES)
            sizes.append(_frame(_Bits(content), sequence, layers, sizes))
        at = end
    raise too_many("AVIF", "units of data", MOST_UNITS)


def _unit(view: memoryview, at: int) -> tuple[int, int, int, int]:
    """Kind of a unit, its layers (temporal in the low, spatial in the high byte), and where its content starts and
    ends."""
    header = view[at]
    kind, extended, sized = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
    at += 1
    layers = 0
    if extended:
        layers = view[at] >> 5 | (view[at] >> 3 & 3) << 8
        at += 1
    if not sized:
        return kind, layers, at, len(view)
    length = 0
    for place in range(8):
        byte = view[at]
        at += 1
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    if at + length > len(view):
        raise cut_off("AVIF")
    return kind, layers, at, at + length


def _sequence(bits: _Bits) -> _Sequence:
    bits.read(4)  # profile, still image
    found = _Sequence(reduced=bits.flag())
    if found.reduced:
        bits.read(5)
    else:
        _operating_points(bits, found)
    found.width_bits, found.height_bits = bits.read(4) + 1, bits.read(4) + 1
    found.size = bits.read(found.width_bits) + 1, bits.read(found.height_bits) + 1
    if not found.reduced and bits.flag():
        found.delta_bits = bits.read(4) + 2
        found.id_bits = bits.read(3) + 1 + found.delta_bits
    bits.read(3)  # superblocks, filters
    if not found.reduced:
        _tools(bits, found)
    return found


def _operating_points(bits: _Bits, found: _Sequence) -> None:
    delay_bits, equal = 0, False
    if bits.flag():
        bits.read(64)
        equal = bits.flag()
        if equal:
            bits.variable()
        if bits.flag():
            delay_bits = bits.read(5) + 1
            bits.read(32)
            found.removal_bits = bits.read(5) + 1
            found.time_bits = bits.read(5) + 1
            if equal:
                found.time_bits = 0
    displayed = bits.flag()
    timed = []
    for _ in range(bits.read(5) + 1):
        layers = bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.flag():
            timed.append(layers)
            bits.read(2 * delay_bits + 1)
        if displayed and bits.flag():
            bits.read(4)
    found.timed = tuple(timed)


def _tools(bits: _Bits, found: _Sequence) -> None:
    bits.read(4)  # compound prediction, warped motion, dual filter
    ordered = bits.flag()
    if ordered:
        bits.read(2)
    found.screen_content = _SELECT if bits.flag() else bits.read(1)
    if found.screen_content:
        found.integer_motion = _SELECT if bits.flag() else bits.read(1)
    if ordered:
        found.order_bits = bits.read(3) + 1


def _frame(bits: _Bits, sequence: _Sequence, layers: int, before: list[Size]) -> Size:
    """`uncompressed_header()` up to the size."""
    if sequence.reduced:
        bits.read(1)
        return sequence.size
    if bits.flag():  # a frame from before is shown again
        return _largest(before)
    kind, shown = bits.read(2), bits.flag()
    if shown:
        bits.read(sequence.time_bits)
    else:
        bits.read(1)
    resilient = kind == _SWITCH or (kind == _KEY and shown) or bits.flag()
    intra = kind in (_KEY, _INTRA_ONLY)
    bits.read(1)
    screen_content = bits.read(1) if sequence.screen_content == _SELECT else sequence.screen_content
    if screen_content and sequence.integer_motion == _SELECT:
        bits.read(1)
    bits.read(sequence.id_bits)
    differs = kind == _SWITCH or bits.flag()
    bits.read(sequence.order_bits)
    if not intra and not resilient:
        bits.read(3)
    _removal_times(bits, sequence, layers)
    refreshed = _ALL if kind == _SWITCH or (kind == _KEY and shown) else bits.read(8)
    if (not intra or refreshed != _ALL) and resilient:
        bits.read(8 * sequence.order_bits)
    if not intra:
        _frames_referred_to(bits, sequence)
        if differs and not resilient and any(bits.flag() for _ in range(7)):  # as large as one of those
            return _largest(before)
    if not differs:
        return sequence.size
    return bits.read(sequence.width_bits) + 1, bits.read(sequence.height_bits) + 1


def _removal_times(bits: _Bits, sequence: _Sequence, layers: int) -> None:
    if not sequence.removal_bits or not bits.flag():
        return
    temporal, spatial = layers & 0xFF, layers >> 8
    for point in sequence.timed:
        if point == 0 or (point >> temporal & 1 and point >> (spatial + 8) & 1):
            bits.read(sequence.removal_bits)


def _frames_referred_to(bits: _Bits, sequence: _Sequence) -> None:
    short = bool(sequence.order_bits) and bits.flag()
    if short:
        bits.read(6)
    for _ in range(7):
        bits.read(0 if short else 3)
        bits.read(sequence.delta_bits)


def _largest(sizes: list[Size]) -> Size:
    return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)
