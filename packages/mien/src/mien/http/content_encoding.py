"""Content-Encoding of request bodies: gzip is unpacked as it arrives, everything else is refused."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.requests import Request

from mien.errors import RequestError, UnsupportedMediaType

GZIP = ("gzip", "x-gzip")
SMALL_STEP = 64 * 1024
"""Bytes unpacked on the event loop: more of a chunk is unpacked in a thread."""
STEP = 1024 * 1024
"""Bytes unpacked at a time: a chunk may hold a thousand times its size."""
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
    member, begun = zlib.decompressobj(_GZIP_FORMAT), False
    async for chunk in chunks:
        while chunk:
            if member.eof:
                member = zlib.decompressobj(_GZIP_FORMAT)
            begun = True
            piece = _unpack(member, chunk, SMALL_STEP)
            while piece:
                yield piece
                # A full piece may have more behind it that is already within the unpacker.
                more = not member.eof and (member.unconsumed_tail or len(piece) >= SMALL_STEP)
                piece = await asyncio.to_thread(_unpack, member, member.unconsumed_tail, STEP) if more else b""
            chunk = member.unused_data  # of the next member
    if begun and not member.eof:
        raise RequestError("the gzip body is cut off")


def _unpack(member: "zlib._Decompress", data: bytes, most: int) -> bytes:
    try:
        return member.decompress(data, most)
    except zlib.error as error:
        raise RequestError(f"the body is not valid gzip: {error}") from None
