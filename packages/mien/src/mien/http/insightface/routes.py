"""Routes of the InsightFace-REST API. Handlers take the raw request: no copy, no second validation."""

import math
import time

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from mien.engine.cancellation import CancelScope
from mien.engine.engine import Failed
from mien.engine.sources import Source
from mien.errors import (
    ImageError,
    InvalidField,
    MienError,
    Overloaded,
    SourceFailed,
    SourceNotFound,
    SourceRefused,
    Unavailable,
)
from mien.faces.recognisers import chosen_recogniser
from mien.faces.service import DrawFaces, ImageDone, ImageResult
from mien.http.context import LOADING_SECONDS, Runtime, authorised, context_of, images_inside
from mien.http.forms import FORM
from mien.http.insightface.info import info as info_of
from mien.http.insightface.request import options_of, parsed_form, parsed_request, sources_of
from mien.http.insightface.response import extract_json, faces_json, render, response_type
from mien.http.insightface.schema import (
    CompareAnswer,
    CompareParameters,
    CompareRequest,
    DrawParameters,
    DrawRequest,
    ExtractAnswer,
    ExtractParameters,
    ExtractRequest,
    Info,
    SelfCheckFailed,
    SelfCheckPassed,
)
from mien.http.media import JSON, MSGPACK_TYPES
from mien.http.openapi.operation import Answer, Binary, Described, Form, describe
from mien.http.proxies import prefix_of
from mien.http.route import Route
from mien.vision.recognition import cosine_similarity
from mien.vision.types import Array

router = APIRouter(route_class=Route)
recognition = "Detection & recognition"
utility = "Utility"
FEW_VECTORS = 64
"""Up to so many faces a response is encoded faster than a switch of threads takes."""
IMAGE_ERRORS = (ImageError, SourceRefused, SourceNotFound, SourceFailed)


def _ways(described: Described) -> dict[str, Described]:
    return dict.fromkeys((JSON, *MSGPACK_TYPES), described)


@router.post("/extract", tags=[recognition])
@describe(_ways(ExtractAnswer), body=_ways(ExtractRequest))
async def extract(request: Request) -> Response:
    """Find faces and compute their embeddings in a batch of images. JSON or MessagePack, both ways."""
    started = time.perf_counter()
    async with parsed_request(request, ExtractRequest) as (body, runtime, scope):
        sources = sources_of(body.images, body.img_req_headers)
        answer = await _extracted(request, sources, body, runtime, scope, started)
        kind = response_type(request, msgpack=body.msgpack)
        vectors = sum(len(image["faces"]) for image in answer["data"])
        if vectors <= FEW_VECTORS:
            return render(answer, kind)
        return await context_of(request).codec_threads.run(scope, render, answer, kind)


async def _extracted(
    request: Request,
    sources: list[Source],
    parameters: ExtractParameters,
    runtime: Runtime,
    scope: CancelScope,
    started: float,
) -> ExtractAnswer:
    api = runtime.settings.api
    options = options_of(parameters)
    with images_inside(request, len(sources)):
        results = await runtime.faces.analyse(sources, options, scope, aligned=parameters.embed_only)
    total_ms = (time.perf_counter() - started) * 1e3
    answer = extract_json(results, parameters, total_ms, api.status_words)
    if parameters.recogniser is not None:
        chosen = chosen_recogniser(parameters.recogniser, runtime.models.recognisers)
        answer["model"], answer["same_threshold"] = chosen.name, chosen.same_threshold
    return answer


@router.post("/multipart/extract", tags=[recognition])
@describe(_ways(ExtractAnswer), body={FORM: Form(ExtractParameters, {"file": "The images."}, many=True)})
async def multipart_extract(request: Request) -> Response:
    """As `/extract`, with the images as uploaded files (any field names) and the parameters as form fields."""
    started = time.perf_counter()
    async with parsed_form(request, ExtractParameters) as (sources, parameters, runtime, scope):
        answer = await _extracted(request, sources, parameters, runtime, scope, started)
        return render(answer, response_type(request, msgpack=parameters.msgpack))


@router.post("/compare", tags=[recognition])
@describe(_ways(CompareAnswer), body=_ways(CompareRequest), errors=IMAGE_ERRORS)
async def compare(request: Request) -> Response:
    """Compare every face of one image with every face of another."""
    started = time.perf_counter()
    async with parsed_request(request, CompareRequest) as (body, runtime, scope):
        sources = sources_of(body.images, body.img_req_headers)
        answer = await _compared(request, sources, body, runtime, scope, started)
        return render(answer, response_type(request, msgpack=body.msgpack))


@router.post("/multipart/compare", tags=[recognition])
@describe(
    _ways(CompareAnswer),
    body={FORM: Form(CompareParameters, {"file": "The two images."}, many=True)},
    errors=IMAGE_ERRORS,
)
async def multipart_compare(request: Request) -> Response:
    """As `/compare`, with the images as two uploaded files (any field names) and the parameters as form fields."""
    started = time.perf_counter()
    async with parsed_form(request, CompareParameters) as (sources, parameters, runtime, scope):
        answer = await _compared(request, sources, parameters, runtime, scope, started)
        return render(answer, response_type(request, msgpack=parameters.msgpack))


async def _compared(
    request: Request,
    sources: list[Source],
    parameters: CompareParameters,
    runtime: Runtime,
    scope: CancelScope,
    started: float,
) -> CompareAnswer:
    if len(sources) != 2:
        raise InvalidField(f"images: expected exactly 2 images to compare, got {len(sources)}")
    wanted = ExtractParameters.model_validate(parameters.model_dump(exclude={"images"}))
    with images_inside(request, len(sources)):
        results = await runtime.faces.analyse(sources, options_of(wanted), scope)
    first, second = (_succeeded(result, number) for number, result in enumerate(results, 1))
    similarity = _similarity(_vectors(first), _vectors(second))
    own = parameters.same_threshold
    threshold = runtime.models.same_threshold(parameters.recogniser) if own is None else own
    answer: CompareAnswer = {
        "took": {"total_ms": (time.perf_counter() - started) * 1e3},
        "model": chosen_recogniser(parameters.recogniser, runtime.models.recognisers).name,
        "threshold": threshold,
        "faces": [faces_json(side.analysis, wanted) for side in (first, second)],
        "similarity": similarity,
        "same": similarity >= threshold,
    }
    if own is not None:
        answer["same_threshold"] = own
    return answer


def _succeeded(result: ImageResult, number: int) -> ImageDone:
    if isinstance(result, ImageDone):
        return result
    raise _of_image(number, result)


def _of_image(number: int, failed: Failed) -> MienError:
    return type(failed.error)(f"image {number}: {failed.error.message}")


def _vectors(done: ImageDone) -> list[Array]:
    return [face.vector for face in done.analysis.faces if face.vector is not None]


def _similarity(first: list[Array], second: list[Array]) -> Array:
    """[N, M], also where an image shows no face."""
    if not first or not second:
        return np.zeros((len(first), len(second)), np.float32)
    return cosine_similarity(np.stack(first), np.stack(second))


@router.post("/draw_detections", tags=[recognition])
@describe({"image/jpeg": Binary()}, body=_ways(DrawRequest), errors=IMAGE_ERRORS)
async def draw_detections(request: Request) -> Response:
    """The first image with its faces drawn in, as JPEG."""
    async with parsed_request(request, DrawRequest) as (body, runtime, scope):
        sources = sources_of(body.images, body.img_req_headers)
        if not sources:
            raise InvalidField("images: expected an image to draw on, got none")
        return await _drawn(request, sources[0], body, runtime, scope)


@router.post("/multipart/draw_detections", tags=[recognition])
@describe({"image/jpeg": Binary()}, body={FORM: Form(DrawParameters, {"file": "The image."})}, errors=IMAGE_ERRORS)
async def multipart_draw_detections(request: Request) -> Response:
    """An uploaded image (field `file`) with its faces drawn in, as JPEG."""
    async with parsed_form(request, DrawParameters) as (sources, parameters, runtime, scope):
        return await _drawn(request, sources[0], parameters, runtime, scope)


async def _drawn(
    request: Request, source: Source, parameters: DrawParameters, runtime: Runtime, scope: CancelScope
) -> Response:
    wanted = ExtractParameters.model_validate(
        {**parameters.model_dump(), "extract_embedding": False, "return_landmarks": parameters.draw_landmarks}
    )
    operation = DrawFaces(
        options_of(wanted),
        runtime.settings.models.detector,
        landmarks=parameters.draw_landmarks,
        scores=parameters.draw_scores,
        sizes=parameters.draw_sizes,
    )
    with images_inside(request, 1):
        drawing = await runtime.faces.draw(source, operation, scope)
    if isinstance(drawing, Failed):
        raise _of_image(1, drawing)
    return Response(drawing, media_type="image/jpeg")


@router.get("/info", tags=[utility])
@describe(Info)
async def info(request: Request) -> JSONResponse:
    """Models and defaults of this server. Holds no secrets."""
    runtime = authorised(request)
    return JSONResponse(info_of(runtime))


UNHEALTHY = {
    500: Answer("It failed.", {JSON: SelfCheckFailed}),
    503: Answer("The server starts, stops or is too busy to check.", {JSON: SelfCheckFailed}),
}


@router.get("/health", tags=[utility])
@describe(SelfCheckPassed, scope=None, others=UNHEALTHY)
async def health(request: Request) -> JSONResponse:
    """Finds the face in a built-in photo, through every stage: 200 `{"status": "ok"}`, else 500; 503 while the server
    starts, stops or is too busy to check."""
    runtime = context_of(request).readiness.runtime
    try:
        if runtime is None:
            raise Unavailable("the models are being loaded", retry_after=LOADING_SECONDS)
        await runtime.self_check.run()
    except (Unavailable, Overloaded) as error:
        not_now: SelfCheckFailed = {"detail": error.message}
        return JSONResponse(not_now, 503, {"Retry-After": str(math.ceil(error.retry_after or LOADING_SECONDS))})
    except MienError:
        failed: SelfCheckFailed = {"detail": "self check failed"}
        return JSONResponse(failed, 500)
    passed: SelfCheckPassed = {"status": "ok"}
    return JSONResponse(passed)


@router.get("/", include_in_schema=False)
async def root(request: Request) -> RedirectResponse:
    """To the interactive documentation."""
    return RedirectResponse(f"{prefix_of(request.scope)}/docs", 307)
