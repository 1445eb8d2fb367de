"""Uploaded images with form fields, within the same limits as every other body."""

import asyncio
from contextlib import ExitStack
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mien.errors import BodyTooSlow, InvalidField, RequestError, UnsupportedMediaType
from mien.http.body import limited_stream
from mien.http.errors import invalid_fields
from mien.http.insightface.wire import media_type
from mien.runtime import Runtime

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
M = TypeVar("M", bound=BaseModel)


async def read_form(request: Request, runtime: Runtime, model: type[M], room: ExitStack) -> tuple[list[bytes], M]:
    """The uploaded files in order, at least one, and the other fields as `model`.

    Raises UnsupportedMediaType, RequestError, BodyTooLarge, BodyTooSlow, InvalidField.
    """
    kind = media_type(request.headers.get("content-type", ""))
    if kind != "multipart/form-data":
        raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads multipart/form-data")
    form = await _parse(request, runtime, room)
    try:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not uploads:
            raise InvalidField("file: expected at least one uploaded file")
        files = [await upload.read() for upload in uploads]
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str) and value != ""}
    finally:
        await form.close()
    try:
        return files, model.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def _parse(request: Request, runtime: Runtime, room: ExitStack) -> FormData:
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
        raise RequestError(f"the form does not parse: {getattr(error, 'message', error)}") from None
