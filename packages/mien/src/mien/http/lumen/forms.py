"""Multipart bodies: file parts named `payload`, several of them make a batch, the other fields beside them."""

import asyncio
from contextlib import ExitStack

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mien.errors import BodyTooLarge, BodyTooSlow, InvalidField, RequestError
from mien.http.body import limited_stream
from mien.http.lumen.envelope import Envelope, from_strings
from mien.runtime import Runtime

MAX_FIELDS = 64
MAX_FIELD_BYTES = 1024 * 1024
PAYLOAD = "payload"


async def read_form(request: Request, runtime: Runtime, room: ExitStack) -> Envelope:
    """The envelope of a form. Raises RequestError, BodyTooLarge, BodyTooSlow, InvalidField."""
    form = await _parsed(request, runtime, room)
    try:
        payloads = [
            await value.read() if isinstance(value, UploadFile) else value.encode()
            for name, value in form.multi_items()
            if name == PAYLOAD
        ]
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str) and name != PAYLOAD}
    finally:
        await form.close()
    if not payloads:
        raise InvalidField("payload: expected at least one file part of this name")
    return from_strings(fields, tuple(payloads))


async def _parsed(request: Request, runtime: Runtime, room: ExitStack) -> FormData:
    settings = runtime.settings
    stream = limited_stream(request, settings.max_body_bytes, runtime.admission, room)
    parser = MultiPartParser(
        request.headers, stream, max_files=settings.max_images, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    parser.spool_max_size = settings.max_body_bytes  # the body is bounded already: nothing goes through the disk
    try:
        async with asyncio.timeout(settings.request_timeout):
            return await parser.parse()
    except TimeoutError:
        raise BodyTooSlow(f"the form did not arrive within {settings.request_timeout:g} s") from None
    except (MultiPartException, KeyError, ValueError) as error:
        message = str(getattr(error, "message", error))
        if message.startswith("Too many files"):
            raise BodyTooLarge(f"more than {settings.max_images} payloads in one request") from None
        raise RequestError(f"the form does not parse: {message}") from None
