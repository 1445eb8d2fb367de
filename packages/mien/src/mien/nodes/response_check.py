"""Whether the messages of a node's response make sense: what does not is the node's failure, never half a result."""

import math
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec

from mien.nodes.chunks import InvalidResponse
from mien.nodes.proto import inference_pb2 as pb

MAX_META_BYTES = 64 * 1024
MAX_CHUNKS = 65_536

_KIND = "lumen.output.kind"
_DTYPE, _SHAPE = "lumen.output.tensor.dtype", "lumen.output.tensor.shape"
_ITEM_BYTES = {"fp32": 4, "float32": 4, "fp16": 2, "float16": 2, "uint8": 1, "int64": 8}
_Shape: TypeAlias = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=2**62)]], msgspec.Meta(max_length=64)]
"""Bounded: Python multiplies integers of any length, but refuses to print those of over 4300 digits."""


class ResponseCheck:
    """Checks the messages of one response in the order in which they arrive.

    Numbers are optional in the protocol: a node numbers the results of a stream from 0, or leaves `seq` out. Where it
    gives a `total` over 1, the numbers count up to it: chunks of one result, or so many results.
    """

    def __init__(self, correlation_id: str, *, stream: bool) -> None:
        """`correlation_id`: that of the request. Nodes may leave it out, but not answer with another one.

        `stream`: whether partial results are wanted; otherwise nodes may leave them out, but not their numbers.
        """
        self._correlation_id = correlation_id
        self._stream = stream
        self._results = 0
        self._numbered = False
        self._total = self._chunks = 0

    def add(self, message: pb.InferResponse) -> None:
        """Raise InvalidResponse unless the message continues the response."""
        if message.correlation_id not in ("", self._correlation_id):
            raise InvalidResponse(f"it answers another request, {message.correlation_id[:80]!r}")
        if sum(len(key) + len(value) for key, value in message.meta.items()) > MAX_META_BYTES:
            raise InvalidResponse(f"a message has more than {MAX_META_BYTES} bytes of meta")
        if message.total > MAX_CHUNKS:
            raise InvalidResponse(f"a message is one of {message.total}; at most {MAX_CHUNKS} are read")
        if message.total > 1 or self._total:
            self._add_chunk(message)
        else:
            self._add_result(message)

    def _add_chunk(self, message: pb.InferResponse) -> None:
        self._total = self._total or message.total
        if message.total != self._total:
            raise InvalidResponse(f"the totals differ: {self._total} and {message.total}")
        if message.seq != self._chunks:
            raise InvalidResponse(f"expected seq {self._chunks} of {self._total}, got seq {message.seq}")
        self._chunks += 1
        if self._chunks == self._total:
            self._total = self._chunks = 0
            self._results += 1
        elif message.is_final:
            raise InvalidResponse(f"expected {self._total} chunks, got {self._chunks}")

    def _add_result(self, message: pb.InferResponse) -> None:
        if message.offset:
            raise InvalidResponse(f"a result begins at offset {message.offset}, but is no chunk of several")
        number, self._results = self._results, self._results + 1
        if not self._stream or (message.seq == 0 and (message.is_final or not self._numbered)):
            return
        if message.seq != number or (number > 1 and not self._numbered):
            raise InvalidResponse(f"expected seq {number if self._numbered else 0}, got seq {message.seq}")
        self._numbered = True


def check_tensor(data: bytes, meta: Mapping[str, str]) -> None:
    """Raise InvalidResponse for a tensor whose bytes are not those of its shape."""
    if meta.get(_KIND) != "tensor":
        return
    size = _ITEM_BYTES.get(meta.get(_DTYPE, ""))
    try:
        shape = msgspec.json.decode(meta.get(_SHAPE, ""), type=_Shape)
    except msgspec.DecodeError as error:
        raise InvalidResponse(f"a tensor without a shape that can be used: {error}") from None
    if size is not None and (expected := math.prod(shape) * size) != len(data):
        raise InvalidResponse(f"a tensor of shape {shape[:8]} has {expected} bytes; {len(data)} came")
