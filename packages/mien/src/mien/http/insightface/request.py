"""Requests of the InsightFace-REST API: JSON, MessagePack or a form in; images and options out."""

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from mien.decode.budget import Limits as ValueLimits
from mien.decode.json import json_value, kind_of
from mien.decode.msgpack import msgpack_value
from mien.engine.cancellation import CancelScope
from mien.engine.sources import Base64, Item, Remote, Source
from mien.errors import BodyTooLarge, InvalidField, RequestError, UnsupportedMediaType
from mien.faces.pipeline import FaceOptions
from mien.http.context import Runtime, authorised, context_of
from mien.http.disconnect import cancel_on_disconnect
from mien.http.errors import invalid_fields
from mien.http.forms import FORM, text_fields, uploads
from mien.http.insightface.schema import ExtractParameters, Images
from mien.http.media import JSON, MAYBE_JSON, MSGPACK, MSGPACK_TYPES, bare, content_type, require_json
from mien.settings import Api, Limits

MAX_FIELD_BYTES = 64 * 1024
DEFAULTS = {
    "threshold": "default_threshold",
    "return_face_data": "default_return_face_data",
    "return_landmarks": "default_return_landmarks",
    "extract_embedding": "default_extract_embedding",
    "extract_ga": "default_extract_ga",
    "detect_masks": "default_detect_masks",
}
"""The settings that say what a parameter is where a request does not."""
M = TypeVar("M", bound=BaseModel)


@asynccontextmanager
async def parsed_request(request: Request, model: type[M]) -> AsyncIterator[tuple[M, Runtime, CancelScope]]:
    """The validated request, the runtime and the cancellation scope; its bytes count as admitted until the block ends.

    Raises what `authorised`, `BodyReader.read` and `parse` raise.
    """
    runtime, bodies = authorised(request), context_of(request).bodies
    scope = CancelScope(runtime.settings.limits.request_timeout)
    with ExitStack() as admitted:
        body = await bodies.read(request, admitted)
        kind = request.headers.get("content-type", "")
        limits, defaults = runtime.settings.limits, defaults_of(runtime.settings.api)
        parsed = await bodies.parse(parse, body, kind, model, limits, defaults)
        del body  # which binary images were copied from
        with cancel_on_disconnect(request, scope):
            yield parsed, runtime, scope


@asynccontextmanager
async def parsed_form(request: Request, model: type[M]) -> AsyncIterator[tuple[list[Source], M, Runtime, CancelScope]]:
    """The uploaded files in order, at least one, and the other fields as `model`.

    Raises UnsupportedMediaType, RequestError, BodyTooLarge, BodyTooSlow, InvalidField.
    """
    runtime = authorised(request)
    scope = CancelScope(runtime.settings.limits.request_timeout)
    with ExitStack() as admitted:
        files, parameters = await _form(request, model, admitted)
        with cancel_on_disconnect(request, scope):
            yield [Item(file) for file in files], parameters, runtime, scope


def defaults_of(api: Api) -> dict[str, Any]:
    """What parameters are where a request does not say."""
    return {parameter: getattr(api, setting) for parameter, setting in DEFAULTS.items()}


def parse(
    body: bytes, kind: str, model: type[M], limits: Limits, defaults: Mapping[str, Any] = MappingProxyType({})
) -> M:
    """The validated body. Raises RequestError, UnsupportedMediaType, InvalidField, BodyTooLarge."""
    kind, values = bare(kind), ValueLimits(limits.max_values)
    if kind in MSGPACK_TYPES:
        data = msgpack_value(body, values)
        if not isinstance(data, dict):
            raise RequestError(f"the body must be a map; this one is {kind_of(data)}")
    elif kind in (*MAYBE_JSON, JSON) or kind.endswith("+json"):
        require_json(body, kind)
        data = _json(body, values)
    else:
        raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads {JSON} and {MSGPACK}")
    _require_few_images(data.get("images"), limits.max_images)
    return _validated(data, model, defaults)


def _validated(data: Mapping[str, Any], model: type[M], defaults: Mapping[str, Any]) -> M:
    """Raises InvalidField."""
    given = {name: value for name, value in data.items() if value is not None}
    try:
        return model.model_validate({**defaults, **given})
    except ValidationError as error:
        raise invalid_fields(error) from None


def _json(body: bytes, limits: ValueLimits) -> dict[str, Any]:
    """The object. Whatever else it is, is an invalid field, as FastAPI has it. Raises InvalidField, BodyTooLarge."""
    try:
        data = json_value(body, limits)
    except BodyTooLarge:
        raise
    except RequestError as error:
        raise InvalidField(error.message, ({"type": "json_invalid", "loc": [], "msg": error.message},)) from None
    if not isinstance(data, dict):
        message = f"the body is {kind_of(data)}; expected a JSON object"
        raise InvalidField(message, ({"type": "model_type", "loc": [], "msg": message},))
    return data


def _require_few_images(images: Any, most: int) -> None:
    """Before each of them is validated. Raises BodyTooLarge."""
    for listed in images.values() if isinstance(images, dict) else ():
        if isinstance(listed, list) and len(listed) > most:
            raise BodyTooLarge(f"{len(listed)} images in one request; this server takes at most {most}")


def sources_of(images: Images, headers: dict[str, str]) -> list[Source]:
    """The request's images; `urls` win over `data`, as in the original, but an empty list hides nothing."""
    if images.urls:
        return [Remote(location, headers) for location in images.urls]
    return [Item(item) if isinstance(item, bytes) else Base64(item) for item in images.data]


def options_of(parameters: ExtractParameters) -> FaceOptions:
    """The parameters as the face service's options."""
    return FaceOptions(
        threshold=parameters.threshold,
        embedding=parameters.extract_embedding,
        landmarks=parameters.return_landmarks,
        crops=parameters.return_face_data,
        attributes=parameters.extract_ga,
        masks=parameters.detect_masks,
        limit=parameters.limit_faces,
        min_size=parameters.min_face_size,
        recogniser=parameters.recogniser,
        quality=parameters.return_quality,
        pose=parameters.return_pose,
        landmarks_68=parameters.return_landmarks_68,
        detection_size=parameters.detection_size,
        rotate=parameters.rotate,
    )


async def _form(request: Request, model: type[M], admitted: ExitStack) -> tuple[list[bytes], M]:
    kind = content_type(request)
    if kind != FORM:
        raise UnsupportedMediaType(f"Content-Type is {kind[:80]!r}; this route reads {FORM}")
    async with context_of(request).bodies.form(request, admitted, field_bytes=MAX_FIELD_BYTES) as form:
        files = [await upload.read() for upload in uploads(form)]
        fields = {name: value for name, value in text_fields(form).items() if value}
    if not files:
        raise InvalidField("file: expected at least one uploaded file")
    return files, _validated(fields, model, defaults_of(context_of(request).settings.api))
