"""`POST /v1/infer`. The handler takes the raw request: no copy, no second validation."""

from contextlib import ExitStack
from types import SimpleNamespace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mien.engine.cancellation import CancelScope
from mien.errors import AppRunFailed, DeadlineExceeded, MienError, NodeFailed, NotFound
from mien.http.context import Runtime, authorised_caller, context_of, images_inside
from mien.http.disconnect import cancel_on_disconnect
from mien.http.errors import render_error
from mien.http.forms import FORM
from mien.http.lumen.catalogue import router as catalogue
from mien.http.lumen.messages import Messages, PrefetchingReader, collect
from mien.http.lumen.request import (
    CORRELATION_HEADER,
    MAX_ID_LENGTH,
    TIMEOUT_HEADER,
    deadline_seconds,
    read_envelope,
    route,
)
from mien.http.lumen.response import EventStream, correlation, framing_for, whole_response
from mien.http.lumen.schema import InferAnswer, InferBody, InferEvent, InferFields, InferHeaders, InferQuery
from mien.http.media import BYTES, EVENT_STREAM, JSON, MSGPACK_TYPES, NDJSON, accepted
from mien.http.openapi.operation import Binary, Form, Stream, describe
from mien.http.route import Route
from mien.inference.contract import InferRequest, Service
from mien.inference.results import EmbeddingV1, FaceV1, LabelsV1, OcrV1

PATH = "/v1/infer"
PATHS = (PATH, f"{PATH}/")
RESULTS = {"face_v1": FaceV1, "labels_v1": LabelsV1, "embedding_v1": EmbeddingV1, "ocr_v1": OcrV1}

router = APIRouter(route_class=Route)


@describe(
    {
        JSON: InferAnswer,
        EVENT_STREAM: Stream(
            InferEvent, "With `_stream`: objects with a blank line after each; events if Accept asks."
        ),
        NDJSON: Stream(InferEvent, "With `_stream`: an event a line."),
        **{f"{JSON};schema={name}": result for name, result in RESULTS.items()},
        "*/*": Binary("The result itself, if Accept asks for its media type, such as those above."),
    },
    body={
        **dict.fromkeys((JSON, *MSGPACK_TYPES), InferBody),
        FORM: Form(InferFields, {"payload": "The payload; several are a batch."}, many=True),
        BYTES: Binary("The payload; everything else in the query."),
    },
    query=InferQuery,
    headers=InferHeaders,
    errors=(NotFound, AppRunFailed, NodeFailed, DeadlineExceeded),
)
async def infer(request: Request) -> Response:
    """Ask a service by name. JSON, MessagePack, multipart or raw bytes in; one result or a stream of events out."""
    runtime, caller = authorised_caller(request)
    with ExitStack() as admitted, context_of(request).infer_traffic.measured() as outcome:
        envelope = await read_envelope(request, admitted)
        request.state.correlation_id = envelope.correlation_id  # for the response, should this fail
        admitted.enter_context(images_inside(request, len(envelope.payloads)))
        routed = route(envelope, runtime.registry, caller.owner)
        in_header = request.headers.get(TIMEOUT_HEADER, "")
        scope = CancelScope(deadline_seconds(routed.timeout_ms, in_header, runtime.settings.limits.request_timeout))
        if routed.stream:
            response = await _streamed(request, runtime, routed.service, routed.request, scope)
            response.hold(admitted.pop_all(), outcome.hand_over())
            return response
        return await _whole(request, routed.service, routed.request, scope)


router.add_api_route(PATH, infer, methods=["POST"], tags=["Inference"], response_model=None)
router.add_route(f"{PATH}/", infer, ["POST"], include_in_schema=False)
router.include_router(catalogue)


async def _whole(request: Request, service: Service, asked: InferRequest, scope: CancelScope) -> Response:
    messages = Messages(service.infer(asked, scope, stream=False), scope)
    try:
        with cancel_on_disconnect(request, scope):
            result = await collect(messages)
    finally:
        await messages.close()
    return whole_response(result, asked.correlation_id, wanted=accepted(request), decode=_decode(request))


async def _streamed(
    request: Request, runtime: Runtime, service: Service, asked: InferRequest, scope: CancelScope
) -> EventStream:
    """The stream, once its first message has arrived: errors before it become ordinary responses."""
    reader = PrefetchingReader(Messages(service.infer(asked, scope, stream=True), scope))
    try:
        with cancel_on_disconnect(request, scope):
            first = await reader.next()
    except BaseException:
        scope.cancel()
        await reader.close()
        raise
    return EventStream(
        first,
        reader,
        scope,
        framing=framing_for(accepted(request)),
        correlation_id=asked.correlation_id,
        decode=_decode(request),
        metrics=runtime.metrics,
    )


def _decode(request: Request) -> bool:
    return request.query_params.get("decode", "").lower() in ("1", "true", "yes")


# --- in front of the router


def _render_error(request: Request, error: MienError) -> Response:
    """The error with the correlation id of a request that failed, perhaps before its body was read."""
    response = render_error(request, error)
    in_header = request.headers.get(CORRELATION_HEADER, "")[:MAX_ID_LENGTH]
    known = getattr(request.state, "correlation_id", "") or in_header or request.state.request_id
    response.headers.update(correlation(known))
    return response


# What metrics and error handling read of a route, for a request that never reaches the router.
ROUTE = SimpleNamespace(path=PATH, render_error=_render_error)


class InferFirst:
    """ASGI middleware that handles `POST /v1/infer` before the router; everything else passes through.

    Route matching and FastAPI's own steps take several times as long as the work of a small request. The same function
    is registered in the router, too, which documents it and handles other methods.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = ROUTE
        request = Request(scope, receive, send)
        try:
            response = await infer(request)
        except MienError as error:
            response = await scope["app"].exception_handlers[MienError](request, error)
        await response(scope, receive, send)
