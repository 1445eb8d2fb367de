"""Multipart forms, within the same limits as every other body."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mien.errors import BodyTooLarge, BodyTooSlow, RequestError
from mien.storage.disk import disk_errors

FORM = "multipart/form-data"
MAX_FIELDS = 64


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
    parser = MultiPartParser(
        request.headers, chunks, max_files=limits.files, max_fields=MAX_FIELDS, max_part_size=limits.field_bytes
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
        raise RequestError(f"the form cannot be parsed: {message}") from None
