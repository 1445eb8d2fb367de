"""Splitting payloads into chunks and reassembling them. Pure: no network, no clock.

A chunk says which one it is (`seq`), of how many (`total`), and where it begins (`offset`, bytes).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mien.errors import BodyTooLarge, RequestError
from mien.inference.contract import InferResult

CHUNK_MARK = "lumen.chunked"
"""Key in the `meta` of a chunk that this server split off. A numbered message without it is a result of its own: some
nodes number the parts of a stream in the same fields."""


class ChunkError(RequestError):
    """Chunks that are incomplete or contradict each other; the sender has to start over."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a payload. A payload that is not split has seq = total = offset = 0."""

    data: bytes
    seq: int = 0
    total: int = 0
    offset: int = 0


def split(payload: bytes, *, threshold: int, max_chunk: int) -> Iterator[Chunk]:
    """The chunks of a payload: one up to `threshold` bytes, else chunks of `max_chunk` bytes."""
    if max_chunk <= 0:
        raise ValueError(f"a chunk must have at least one byte; max_chunk is {max_chunk}")
    if len(payload) <= threshold:
        yield Chunk(payload)
        return
    total = -(-len(payload) // max_chunk)
    for seq in range(total):
        offset = seq * max_chunk
        yield Chunk(payload[offset : offset + max_chunk], seq, total, offset)


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one request repeats."""

    task: str
    mime: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """One request, reassembled."""

    correlation_id: str
    head: Head
    payload: bytes


class Merger:
    """Reassembles the requests of one stream, which are told apart by correlation id (it may be empty).

    A request is complete as soon as all its chunks have arrived, in any order. Holds at most `max_bytes` of `max_open`
    incomplete requests of up to `max_chunks` chunks each. Raises ChunkError for chunks that contradict each other and
    BodyTooLarge for too many bytes; the merger must not be used after that.
    """

    def __init__(self, *, max_bytes: int, max_chunks: int = 65_536, max_open: int = 16) -> None:
        self._max_bytes = max_bytes
        self._max_chunks = max_chunks
        self._max_open = max_open
        self._open: dict[str, _Request] = {}
        self.held = 0
        """Bytes of requests that are not complete."""

    @property
    def incomplete(self) -> int:
        """Number of requests with missing chunks."""
        return len(self._open)

    def add(self, correlation_id: str, head: Head, chunk: Chunk) -> CompleteRequest | None:
        """Take one message; returns the request if this was its last missing chunk."""
        if len(chunk.data) + self.held > self._max_bytes:
            raise BodyTooLarge(f"the payload is over this node's limit of {self._max_bytes} bytes")
        if chunk.total <= 1 and correlation_id not in self._open:
            if chunk.seq or chunk.offset:
                raise ChunkError(f"{_name(correlation_id)}: seq {chunk.seq} and offset {chunk.offset} without a total")
            return CompleteRequest(correlation_id, head, chunk.data)
        request = self._open.get(correlation_id) or self._begin(correlation_id, head, chunk.total)
        request.add(head, chunk)
        self.held += len(chunk.data)
        if len(request.chunks) < request.total:
            return None
        del self._open[correlation_id]
        self.held -= request.size
        return CompleteRequest(correlation_id, head, request.join())

    def _begin(self, correlation_id: str, head: Head, total: int) -> "_Request":
        if total > self._max_chunks:
            raise ChunkError(f"{_name(correlation_id)}: {total} chunks; this node takes at most {self._max_chunks}")
        if len(self._open) == self._max_open:
            raise ChunkError(f"more than {self._max_open} unfinished requests in one stream")
        request = self._open[correlation_id] = _Request(_name(correlation_id), head, total)
        return request

    def require_complete(self) -> None:
        """Raise ChunkError if the sender is done but chunks are missing."""
        for request in self._open.values():
            missing = next(seq for seq in range(request.total) if seq not in request.chunks)
            raise ChunkError(
                f"{request.name}: {len(request.chunks)} of {request.total} chunks came; seq {missing} is missing"
            )


class _Request:
    """A request with missing chunks."""

    def __init__(self, name: str, head: Head, total: int) -> None:
        self.name = name
        self.head = head
        self.total = total
        self.size = 0
        self.chunks: dict[int, Chunk] = {}

    def add(self, head: Head, chunk: Chunk) -> None:
        if chunk.total != self.total:
            raise ChunkError(f"{self.name}: a chunk says total {chunk.total}, an earlier one {self.total}")
        if chunk.seq >= self.total:
            raise ChunkError(f"{self.name}: seq {chunk.seq} is out of range for a total of {self.total}")
        if chunk.seq in self.chunks:
            raise ChunkError(f"{self.name}: seq {chunk.seq} came twice")
        if head != self.head:
            raise ChunkError(f"{self.name}: task, payload_mime and meta must be the same on all chunks")
        self.chunks[chunk.seq] = chunk
        self.size += len(chunk.data)

    def join(self) -> bytes:
        ordered = [self.chunks[seq] for seq in range(self.total)]
        if any(chunk.offset for chunk in ordered):  # some senders number the chunks and leave the offsets out
            require_contiguous(ordered, lambda reason: ChunkError(f"{self.name}: {reason}"))
        return b"".join(chunk.data for chunk in ordered)


def require_contiguous(ordered: Sequence[Chunk], error: Callable[[str], Exception]) -> None:
    """Raise `error(reason)` unless each chunk begins where the one before it ends."""
    expected = 0
    for chunk in ordered:
        if chunk.offset != expected:
            kind = "overlap" if chunk.offset < expected else "leave a gap"
            raise error(f"the chunks {kind}: seq {chunk.seq} begins at {chunk.offset}, expected {expected}")
        expected += len(chunk.data)


def _name(correlation_id: str) -> str:
    return f"request {correlation_id!r}" if correlation_id else "request without correlation id"


# --- results


def split_result(result: InferResult, max_chunk: int) -> Iterator[InferResult]:
    """The messages that carry one result: itself, or marked chunks of at most `max_chunk` bytes, the last one final."""
    if len(result.data) <= max_chunk:
        yield result
        return
    meta = {**result.meta, CHUNK_MARK: "true"}
    for chunk in split(result.data, threshold=max_chunk, max_chunk=max_chunk):
        last = chunk.seq == chunk.total - 1
        yield replace(
            result,
            data=chunk.data,
            meta=meta,
            is_final=result.is_final and last,
            seq=chunk.seq,
            total=chunk.total,
            offset=chunk.offset,
        )


class InvalidResponse(ValueError):
    """The messages of a response are incomplete or contradict each other."""


def join_results(messages: Sequence[InferResult]) -> InferResult:
    """The one final result of a response in chunks: the same total on all, each seq once, contiguous offsets.

    Raises InvalidResponse.
    """
    total = messages[0].total
    if any(message.total != total for message in messages):
        raise InvalidResponse(f"the totals differ: {sorted({message.total for message in messages})}")
    if len(messages) != total:
        raise InvalidResponse(f"expected {total} chunks, got {len(messages)}")
    ordered = sorted(messages, key=lambda message: message.seq)
    if [message.seq for message in ordered] != list(range(total)):
        raise InvalidResponse(f"expected each seq below {total} once, got {[message.seq for message in ordered][:20]}")
    if any((message.mime, message.schema) != (ordered[0].mime, ordered[0].schema) for message in ordered):
        raise InvalidResponse("the chunks differ in result_mime or result_schema")
    if any(message.is_final for message in messages[:-1]):
        raise InvalidResponse("a chunk before the last one is final")
    require_contiguous([Chunk(m.data, m.seq, m.total, m.offset) for m in ordered], InvalidResponse)
    last = messages[-1]
    meta = {key: value for key, value in last.meta.items() if key != CHUNK_MARK}
    return replace(last, data=b"".join(message.data for message in ordered), meta=meta, seq=0, total=0, offset=0)


def assemble(messages: Sequence[InferResult]) -> InferResult:
    """The result of a response that was collected to its end. Raises InvalidResponse.

    If any message is a chunk (`total` over 1), all of them together must be one result; otherwise the last final
    message, or the last of all, is the result.
    """
    if not messages:
        raise InvalidResponse("no message arrived")
    if any(message.total > 1 for message in messages):
        return replace(join_results(messages), is_final=True)
    finals = [message for message in messages if message.is_final]
    return replace((finals or messages)[-1], is_final=True)


class ResultJoiner:
    """Reassembles marked chunks of a stream's results as they arrive; passes everything else through."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: list[InferResult] = []
        self._size = 0

    @property
    def incomplete(self) -> bool:
        return bool(self._chunks)

    def add(self, message: InferResult) -> InferResult | None:
        """The result that this message completes. Raises InvalidResponse."""
        if message.total <= 1 or CHUNK_MARK not in message.meta:
            if self._chunks:
                raise InvalidResponse("a result broke off before its last chunk")
            return message
        self._size += len(message.data)
        if self._size > self._max_bytes:
            raise InvalidResponse(f"a result is over the limit of {self._max_bytes} bytes")
        self._chunks.append(message)
        if len(self._chunks) < message.total:
            return None
        whole = join_results(self._chunks)
        self._chunks, self._size = [], 0
        return whole
