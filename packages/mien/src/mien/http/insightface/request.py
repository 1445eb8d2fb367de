"""Requests of the InsightFace-REST API: JSON, MessagePack or a form in; images and options out."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from mien.engine.cancellation import CancelScope
from mien.engine.sources import Base64, Item, Remote, Source
from mien.errors import InvalidField, RequestError, UnsupportedMediaType
from mien.faces.pipeline import FaceOptions
from mien.http.body import admitted_chunks, read_body
from mien.http.codecs import LARGE_BODY, msgpack_value
from mien.http.context import Runtime, authorised
from mien.http.disconnect import cancel_on_disconnect
from mien.http.errors import invalid_fields
from mien.http.forms import FORM, FormLimits, read_form, text_fields, uploads
from mien.http.insightface.schema import ExtractParameters, Images
from mien.http.media import JSON, MSGPACK, MSGPACK_TYPES, bare, content_type

MAX_FIELD_BYTES = 64 * 1024
M = TypeVar("M", bound=BaseModel)


@asynccontextmanager
async def parsed_request(request: Request, model: type[M]) -> AsyncIterator[tuple[M, Runtime, CancelScope]]:
    """The authorised, validated request and its call; its bytes count as admitted until the block ends."""
    runtime = authorised(request)
    limits = runtime.settings.limits
    call = CancelScope(limits.request_timeout)
    with ExitStack() as room:
        body = await read_body(request, limits.max_body_bytes, runtime.admission, room, seconds=limits.request_timeout)
        kind = request.headers.get("content-type", "")
        if len(body) > LARGE_BODY:
            parsed = await runtime.parsers.run(call, parse, body, kind, model)
        else:
            parsed = parse(body, kind, model)
        with cancel_on_disconnect(request, call):
            yield parsed, runtime, call


@asynccontextmanager
async def parsed_form(request: Request, model: type[M]) -> AsyncIterator[tuple[list[Source], M, Runtime, CancelScope]]:
    """The uploaded files in order, at least one, and the other fields as `model`.

    Raises UnsupportedMediaType, RequestError, BodyTooLarge, BodyTooSlow, InvalidField.
    """
    runtime = authorised(request)
    call = CancelScope(runtime.settings.limits.request_timeout)
    with ExitStack() as room:
        files, parameters = await _form(request, runtime, model, room)
        with cancel_on_disconnect(request, call):
            yield [Item(file) for file in files], parameters, runtime, call


def parse(body: bytes | bytearray, kind: str, model: type[M]) -> M:
    """The validated body. Raises RequestError, UnsupportedMediaType, InvalidField."""
    kind = bare(kind)
    try:
        if kind in MSGPACK_TYPES:
            data = msgpack_value(body)
            if not isinstance(data, dict):
                raise RequestError(f"the body must be a map; this one is {type(data).__name__}")
            return model.model_validate(data)
        if kind in ("", JSON) or kind.endswith("+json"):  # clients of the original server may send no content type
            return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error) from None
    raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads {JSON} and {MSGPACK}")


def sources_of(images: Images, headers: dict[str, str]) -> list[Source]:
    """The request's images; `urls` win over `data`, as in the original, but an empty list hides nothing."""
    if images.urls:
        return [Remote(location, headers) for location in images.urls]
    return [Item(item) if isinstance(item, bytes) else Base64(item) for item in images.data]


def options_of(parameters: ExtractParameters, default_threshold: float) -> FaceOptions:
    """The parameters as the face service's options."""
    return FaceOptions(
        threshold=default_threshold if parameters.threshold is None else parameters.threshold,
        embedding=parameters.extract_embedding,
        landmarks=parameters.return_landmarks,
        crops=parameters.return_face_data,
        attributes=parameters.extract_ga,
        masks=parameters.detect_masks,
        limit=parameters.limit_faces,
        min_size=parameters.min_face_size,
    )


async def _form(request: Request, runtime: Runtime, model: type[M], room: ExitStack) -> tuple[list[bytes], M]:
    limits = runtime.settings.limits
    kind = content_type(request)
    if kind != FORM:
        raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads {FORM}")
    chunks = admitted_chunks(request, limits.max_body_bytes, runtime.admission, room)
    # The body is bounded and admitted already: nothing goes through the disk.
    form_limits = FormLimits(limits.max_images, MAX_FIELD_BYTES, limits.max_body_bytes, limits.request_timeout)
    async with read_form(request, chunks, form_limits) as form:
        files = [await upload.read() for upload in uploads(form)]
        fields = {name: value for name, value in text_fields(form).items() if value}
    if not files:
        raise InvalidField("file: expected at least one uploaded file")
    try:
        return files, model.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(error) from None
