"""Content-Encoding of request bodies: gzip is unpacked as it arrives, everything else is refused."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from starlette.requests import Request

from mien.errors import RequestError, UnsupportedMediaType

GZIP = ("gzip", "x-gzip")
SMALL_STEP = 64 * 1024
"""Bytes unpacked on the event loop: more of a chunk is unpacked in a thread."""
STEP = 1024 * 1024
"""Bytes unpacked at a time: a chunk may hold a thousand times its size."""
PIECE = 16 * 1024
"""Bytes of a chunk that are unpacked in one go: what follows a member within them is copied for the next one."""
FEW_MEMBERS = 64
BYTES_PER_MEMBER = 1024
"""Content that every member beyond FEW_MEMBERS must have on average: one without content takes 20 bytes and as long as
kilobytes of content."""
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class UnsupportedEncoding(UnsupportedMediaType):
    """Bodies with this Content-Encoding are not read."""


def require_readable(request: Request) -> bool:
    """Whether the body is packed with gzip. Raises UnsupportedEncoding for any other encoding."""
    sent = [part.strip().lower() for part in ",".join(request.headers.getlist("content-encoding")).split(",")]
    encodings = [encoding for encoding in sent if encoding not in ("", "identity")]
    if not encodings:
        return False
    if len(encodings) > 1 or encodings[0] not in GZIP:
        raise UnsupportedEncoding(
            f"Content-Encoding is {', '.join(encodings)[:80]!r}; this server reads gzip, and bodies without encoding"
        )
    return True


async def unpacked(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The content of a gzip body of one or more members, in pieces of at most STEP bytes.

    Raises RequestError for what is no gzip or is cut off, and what `chunks` raises.
    """
    member: zlib._Decompress | None = None
    members = size = 0
    async for chunk in chunks:
        for rest in _pieces(chunk):
            while rest:
                if member is None or member.eof:
                    member, members = zlib.decompressobj(_GZIP_FORMAT), members + 1
                    _require_few(members, size)
                piece = _unpack(member, rest, SMALL_STEP)
                while piece:
                    size += len(piece)
                    yield piece
                    # A full piece may have more behind it that is already within the unpacker.
                    more = not member.eof and (member.unconsumed_tail or len(piece) >= SMALL_STEP)
                    piece = await asyncio.to_thread(_unpack, member, member.unconsumed_tail, STEP) if more else b""
                rest = member.unused_data  # of the next member
            await asyncio.sleep(0)
    if member is not None and not member.eof:
        raise RequestError("the gzip body is cut off")


def _pieces(chunk: bytes) -> Iterator[bytes | memoryview]:
    view = memoryview(chunk)
    return (view[at : at + PIECE] for at in range(0, len(view), PIECE))


def _require_few(members: int, size: int) -> None:
    if members > FEW_MEMBERS + size // BYTES_PER_MEMBER:
        raise RequestError(
            f"the gzip body has {members} members for {size} bytes of content; it may have {FEW_MEMBERS}, and one "
            f"more per {BYTES_PER_MEMBER} bytes: pack the content into one"
        )


def _unpack(member: "zlib._Decompress", data: bytes | memoryview, most: int) -> bytes:
    try:
        return member.decompress(data, most)
    except zlib.error as error:
        raise RequestError(f"the body is not valid gzip: {error}") from None
