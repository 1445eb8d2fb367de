"""Cutting payloads into pieces and putting them together again. Pure: no network, no clock.

A piece says which it is (`seq`), of how many (`total`), and where it begins (`offset`, bytes).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mien.errors import BodyTooLarge, RequestError
from mien.inference.contract import InferResult

PIECE_MARK = "lumen.chunked"
"""Key in the `meta` of a piece that this server cut; its absence on a piece means that the node numbers its parts."""


class ChunkError(RequestError):
    """Pieces that do not make a whole; the sender has to start over."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a payload. A payload in one piece has seq = total = offset = 0."""

    data: bytes
    seq: int = 0
    total: int = 0
    offset: int = 0


def split(payload: bytes, *, threshold: int, max_chunk: int) -> Iterator[Piece]:
    """The pieces of a payload: one up to `threshold` bytes, else pieces of `max_chunk` bytes."""
    if max_chunk <= 0:
        raise ValueError(f"a chunk must have at least one byte; max_chunk is {max_chunk}")
    if len(payload) <= threshold:
        yield Piece(payload)
        return
    total = -(-len(payload) // max_chunk)
    for seq in range(total):
        offset = seq * max_chunk
        yield Piece(payload[offset : offset + max_chunk], seq, total, offset)


@dataclass(frozen=True, slots=True)
class Head:
    """What every piece of one request repeats."""

    task: str
    mime: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """One complete request."""

    correlation_id: str
    head: Head
    payload: bytes


class Merger:
    """The requests of one stream, told apart by correlation id, which may be empty.

    A request is complete as soon as all its pieces are here, in whatever order they came. Holds at most `max_bytes`
    of `max_open` requests of up to `max_pieces` pieces. Raises ChunkError for pieces that contradict each other and
    BodyTooLarge for too much; the merger is not to be used after that.
    """

    def __init__(self, *, max_bytes: int, max_pieces: int = 65_536, max_open: int = 16) -> None:
        self._max_bytes = max_bytes
        self._max_pieces = max_pieces
        self._max_open = max_open
        self._open: dict[str, _Request] = {}
        self.held = 0
        """Bytes of requests that are not complete."""

    @property
    def incomplete(self) -> int:
        """Requests of which pieces are missing."""
        return len(self._open)

    def add(self, correlation_id: str, head: Head, piece: Piece) -> Whole | None:
        """Take one message; the whole request if this was its last missing piece."""
        if len(piece.data) + self.held > self._max_bytes:
            raise BodyTooLarge(f"the payload is over this node's limit of {self._max_bytes} bytes")
        if piece.total <= 1 and correlation_id not in self._open:
            if piece.seq or piece.offset:
                raise ChunkError(f"{_name(correlation_id)}: seq {piece.seq} and offset {piece.offset} without a total")
            return Whole(correlation_id, head, piece.data)
        request = self._open.get(correlation_id) or self._begin(correlation_id, head, piece.total)
        request.add(head, piece)
        self.held += len(piece.data)
        if len(request.pieces) < request.total:
            return None
        del self._open[correlation_id]
        self.held -= request.size
        return Whole(correlation_id, head, request.join())

    def _begin(self, correlation_id: str, head: Head, total: int) -> "_Request":
        if total > self._max_pieces:
            raise ChunkError(f"{_name(correlation_id)}: {total} chunks; this node takes at most {self._max_pieces}")
        if len(self._open) == self._max_open:
            raise ChunkError(f"more than {self._max_open} unfinished requests in one stream")
        request = self._open[correlation_id] = _Request(_name(correlation_id), head, total)
        return request

    def require_complete(self) -> None:
        """Raise ChunkError if the sender is done but pieces are missing."""
        for request in self._open.values():
            missing = next(seq for seq in range(request.total) if seq not in request.pieces)
            raise ChunkError(
                f"{request.name}: {len(request.pieces)} of {request.total} chunks came; seq {missing} is missing"
            )


class _Request:
    """A request that is not complete."""

    def __init__(self, name: str, head: Head, total: int) -> None:
        self.name = name
        self.head = head
        self.total = total
        self.size = 0
        self.pieces: dict[int, Piece] = {}

    def add(self, head: Head, piece: Piece) -> None:
        if piece.total != self.total:
            raise ChunkError(f"{self.name}: a chunk says total {piece.total}, an earlier one {self.total}")
        if piece.seq >= self.total:
            raise ChunkError(f"{self.name}: seq {piece.seq} is out of range for a total of {self.total}")
        if piece.seq in self.pieces:
            raise ChunkError(f"{self.name}: seq {piece.seq} came twice")
        if head != self.head:
            raise ChunkError(f"{self.name}: task, payload_mime and meta must be the same on all chunks")
        self.pieces[piece.seq] = piece
        self.size += len(piece.data)

    def join(self) -> bytes:
        ordered = [self.pieces[seq] for seq in range(self.total)]
        if any(piece.offset for piece in ordered):  # some senders number the pieces and leave the offsets out
            require_contiguous(ordered, lambda reason: ChunkError(f"{self.name}: {reason}"))
        return b"".join(piece.data for piece in ordered)


def require_contiguous(ordered: Sequence[Piece], error: Callable[[str], Exception]) -> None:
    """Raise `error(reason)` unless each piece begins where the one before it ends."""
    expected = 0
    for piece in ordered:
        if piece.offset != expected:
            kind = "overlap" if piece.offset < expected else "leave a gap"
            raise error(f"the chunks {kind}: seq {piece.seq} begins at {piece.offset}, expected {expected}")
        expected += len(piece.data)


def _name(correlation_id: str) -> str:
    return f"request {correlation_id!r}" if correlation_id else "request without correlation id"


# --- results


def split_result(result: InferResult, max_chunk: int) -> Iterator[InferResult]:
    """The messages that carry one result: itself, or marked pieces of at most `max_chunk` bytes, the last one final."""
    if len(result.data) <= max_chunk:
        yield result
        return
    meta = {**result.meta, PIECE_MARK: "true"}
    for piece in split(result.data, threshold=max_chunk, max_chunk=max_chunk):
        last = piece.seq == piece.total - 1
        yield replace(
            result,
            data=piece.data,
            meta=meta,
            is_final=result.is_final and last,
            seq=piece.seq,
            total=piece.total,
            offset=piece.offset,
        )


class BadAnswer(ValueError):
    """Messages of an answer that do not make a whole."""


def join_results(messages: Sequence[InferResult]) -> InferResult:
    """The one final result that the pieces of an answer make: same total on all, each seq once, contiguous offsets.

    Raises BadAnswer.
    """
    total = messages[0].total
    if any(message.total != total for message in messages):
        raise BadAnswer(f"the totals differ: {sorted({message.total for message in messages})}")
    if len(messages) != total:
        raise BadAnswer(f"expected {total} pieces, got {len(messages)}")
    ordered = sorted(messages, key=lambda message: message.seq)
    if [message.seq for message in ordered] != list(range(total)):
        raise BadAnswer(f"expected each seq below {total} once, got {[message.seq for message in ordered][:20]}")
    if any((message.mime, message.schema) != (ordered[0].mime, ordered[0].schema) for message in ordered):
        raise BadAnswer("the pieces differ in result_mime or result_schema")
    if any(message.is_final for message in messages[:-1]):
        raise BadAnswer("a piece before the last one is final")
    require_contiguous([Piece(m.data, m.seq, m.total, m.offset) for m in ordered], BadAnswer)
    last = messages[-1]
    meta = {key: value for key, value in last.meta.items() if key != PIECE_MARK}
    return replace(last, data=b"".join(message.data for message in ordered), meta=meta, seq=0, total=0, offset=0)


def assemble(messages: Sequence[InferResult]) -> InferResult:
    """The whole of an answer that was collected to its end. Raises BadAnswer.

    If any message is a piece (`total` over 1), all must make one whole; otherwise the last final message, or the last
    of all, is the answer.
    """
    if not messages:
        raise BadAnswer("no message came")
    if any(message.total > 1 for message in messages):
        return replace(join_results(messages), is_final=True)
    finals = [message for message in messages if message.is_final]
    return replace((finals or messages)[-1], is_final=True)


class ResultJoiner:
    """Puts marked pieces of a stream's results together as they come; lets everything else through."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[InferResult] = []
        self._size = 0

    @property
    def incomplete(self) -> bool:
        return bool(self._pieces)

    def add(self, message: InferResult) -> InferResult | None:
        """The result that this message completes. Raises BadAnswer."""
        if message.total <= 1 or PIECE_MARK not in message.meta:
            if self._pieces:
                raise BadAnswer("a result broke off before its last piece")
            return message
        self._size += len(message.data)
        if self._size > self._max_bytes:
            raise BadAnswer(f"a result is over the limit of {self._max_bytes} bytes")
        self._pieces.append(message)
        if len(self._pieces) < message.total:
            return None
        whole = join_results(self._pieces)
        self._pieces, self._size = [], 0
        return whole
