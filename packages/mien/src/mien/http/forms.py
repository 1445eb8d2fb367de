"""Multipart forms, within the same limits as every other body."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mien.errors import BodyTooLarge, BodyTooSlow, RequestError
from mien.storage.disk import disk_errors

FORM = "multipart/form-data"
MAX_FIELDS = 64
MAX_OPTIONS = 64
"""Semicolons in one header, which take quadratic time."""
MAX_PREAMBLE_BYTES = 64 * 1024
"""Before the first boundary: in a body that is no form there would never be one."""
PIECE = 8 * 1024
"""Bytes parsed at once where there are many parts: about a hundred, of 40 µs each."""
MAX_PIECE = 256 * 1024
QUICK_SECONDS = 0.002
"""A piece that is parsed in less is followed by one of twice its size: small ones double the cost of a large file."""


@dataclass(frozen=True, slots=True)
class FormLimits:
    """What a form may contain."""

    files: int
    """Maximum number of file parts."""
    field_bytes: int
    """Maximum size of a part that is not a file."""
    memory_bytes: int
    """A file part above this size goes through a temporary file."""
    seconds: float | None = None
    """Deadline for the whole form; None: as `chunks` has it."""


@asynccontextmanager
async def read_form(
    request: Request, chunks: AsyncGenerator[bytes, None], limits: FormLimits
) -> AsyncIterator[FormData]:
    """The form, whose temporary files are deleted at the end of the block.

    Raises BodyTooLarge for too many files, BodyTooSlow, RequestError, StorageFull, and what `chunks` raises.
    """
    form = await _parsed(request, chunks, limits)
    try:
        yield form
    finally:
        await form.close()


def text_fields(form: FormData) -> dict[str, str]:
    """The parts that are not files; of several with one name the last."""
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def uploads(form: FormData) -> list[UploadFile]:
    """The file parts, in order."""
    return [value for _, value in form.multi_items() if isinstance(value, UploadFile)]


async def _parsed(request: Request, chunks: AsyncGenerator[bytes, None], limits: FormLimits) -> FormData:
    boundary = _options(request.headers.get("content-type", "").encode("latin-1")).get(b"boundary")
    if not boundary:
        raise _invalid("Missing boundary in multipart.")
    parser = _Parser(
        request.headers,
        _pieces(_without_preamble(chunks, boundary)),
        max_files=limits.files,
        max_fields=MAX_FIELDS,
        max_part_size=limits.field_bytes,
    )
    parser.spool_max_size = limits.memory_bytes
    try:
        async with asyncio.timeout(limits.seconds):
            with disk_errors():
                return await parser.parse()
    except TimeoutError:
        raise BodyTooSlow(f"the form did not arrive within {limits.seconds:g} s") from None
    except (MultiPartException, KeyError, ValueError) as error:
        message = str(getattr(error, "message", error))
        if message.startswith("Too many files"):
            raise BodyTooLarge(f"more than {limits.files} files in one form") from None
        raise _invalid(message) from None


class _Parser(MultiPartParser):
    """Starlette's, with a limit for the headers of parts."""

    def on_headers_finished(self) -> None:
        _options(self._current_part.content_disposition or b"")
        super().on_headers_finished()


def _invalid(reason: str) -> RequestError:
    return RequestError(f"the form cannot be parsed: {reason}")


def _options(header: bytes) -> dict[bytes, bytes]:
    if header.count(b";") > MAX_OPTIONS:
        raise _invalid(f"a header has more than {MAX_OPTIONS} options")
    return parse_options_header(header)[1]


async def _without_preamble(chunks: AsyncGenerator[bytes, None], boundary: bytes) -> AsyncGenerator[bytes, None]:
    """The form from its first boundary on: what is before it is to be ignored (RFC 2046, section 5.1.1)."""
    delimiter = b"\r\n--" + boundary
    begun, skipped, held = False, 0, b"\r\n"  # the first boundary may have no line before it
    async for chunk in chunks:
        if begun:
            yield chunk
            continue
        held += chunk
        at = held.find(delimiter)
        begun = at >= 0
        if begun:
            yield held[at + len(b"\r\n") :]
            continue
        rest = held[-len(delimiter) :]  # may hold the beginning of the boundary
        skipped += len(held) - len(rest)
        held = rest
        if skipped > MAX_PREAMBLE_BYTES:
            raise _invalid(f"its first {MAX_PREAMBLE_BYTES} bytes do not contain the boundary of its Content-Type")
    if not begun:
        raise _invalid("it does not contain the boundary of its Content-Type")


async def _pieces(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces that are parsed in milliseconds, with a turn of the event loop between them."""
    size = PIECE
    async for chunk in chunks:
        begin = 0
        while begin < len(chunk):
            if begin:
                await asyncio.sleep(0)
            started = time.thread_time()  # not the time that writing to the disk takes in another thread
            yield chunk[begin : begin + size]
            begin += size
            size = min(2 * size, MAX_PIECE) if time.thread_time() - started < QUICK_SECONDS else PIECE
