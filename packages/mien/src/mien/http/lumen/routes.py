"""`POST /v1/infer`. The handler takes the raw request: no copy, no second validation."""

from contextlib import ExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mien.engine.call import Call
from mien.http.context import authorised
from mien.http.lumen.accept import accepted
from mien.http.lumen.bodies import read_envelope
from mien.http.lumen.catalogue import router as catalogue
from mien.http.lumen.framing import framing_for
from mien.http.lumen.hangup import Hangup
from mien.http.lumen.merge import collect
from mien.http.lumen.messages import Messages
from mien.http.lumen.results import answer
from mien.http.lumen.routing import TIMEOUT_HEADER, patience, route
from mien.http.lumen.schema import INFER_ANSWERS, INFER_BODY
from mien.http.lumen.streams import EventStream, Pump
from mien.http.lumen.traffic import Traffic
from mien.http.lumen.watch import router as watch
from mien.inference.contract import InferRequest, Service
from mien.runtime import Runtime

PATH = "/v1/infer"

router = APIRouter()


async def infer(request: Request) -> Response:
    """Ask a service by name. JSON, MessagePack, multipart or raw bytes in; one result or a stream of events out."""
    runtime = authorised(request)
    traffic: Traffic = request.app.state.infer_traffic
    with ExitStack() as room, traffic.measured() as outcome:
        envelope = await read_envelope(request, runtime, room)
        request.state.correlation_id = envelope.correlation_id  # for the answer, should this fail
        asked = route(envelope, runtime.registry)
        in_header = request.headers.get(TIMEOUT_HEADER, "")
        call = Call(patience(asked.timeout_ms, in_header, runtime.settings.request_timeout))
        if asked.stream:
            response = await _streamed(request, runtime, asked.service, asked.request, call)
            response.take(room.pop_all(), outcome.hand_over())
            return response
        return await _whole(request, asked.service, asked.request, call)


router.add_api_route(
    PATH,
    infer,
    methods=["POST"],
    tags=["Inference"],
    responses=INFER_ANSWERS,
    openapi_extra=INFER_BODY,
    response_model=None,
)
router.add_route(f"{PATH}/", infer, ["POST"], include_in_schema=False)
router.include_router(catalogue)
router.include_router(watch)


async def _whole(request: Request, service: Service, asked: InferRequest, call: Call) -> Response:
    messages = Messages(service.infer(asked, call, stream=False), call)
    try:
        with Hangup(request, call):
            result = await collect(messages)
    finally:
        await messages.close()
    return answer(result, asked.correlation_id, wanted=_wanted(request), decode=_decode(request))


async def _streamed(
    request: Request, runtime: Runtime, service: Service, asked: InferRequest, call: Call
) -> EventStream:
    """The stream, once its first message is there: errors before it are ordinary answers."""
    pump = Pump(Messages(service.infer(asked, call, stream=True), call))
    try:
        with Hangup(request, call):
            first = await pump.next()
    except BaseException:
        call.cancel()
        await pump.close()
        raise
    return EventStream(
        first,
        pump,
        call,
        framing=framing_for(_wanted(request)),
        correlation_id=asked.correlation_id,
        decode=_decode(request),
        metrics=runtime.metrics,
    )


def _wanted(request: Request) -> list[str]:
    return accepted(request.headers.get("accept", ""))


def _decode(request: Request) -> bool:
    return request.query_params.get("decode", "").lower() in ("1", "true", "yes")
