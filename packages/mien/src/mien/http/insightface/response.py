"""Responses of the InsightFace-REST API: always all documented keys, null where they were not requested."""

import numpy as np
import pybase64
from starlette.requests import Request
from starlette.responses import Response

from mien.faces.face_v1 import add_extras
from mien.faces.pipeline import Face, FaceAnalysis
from mien.faces.service import ImageDone, ImageResult
from mien.http.codecs import json_response, msgpack_response
from mien.http.insightface.schema import (
    CompareAnswer,
    ExtractAnswer,
    ExtractParameters,
    FaceAnswer,
    FailedCrop,
    ImageAnswer,
    Took,
)
from mien.http.media import JSON, MSGPACK, MSGPACK_TYPES, accepted, bare

STATUS_WORDS = {"success": ("success", "error"), "ok": ("ok", "failed")}


def extract_json(
    results: list[ImageResult], parameters: ExtractParameters, total_ms: float, status_words: str
) -> ExtractAnswer:
    """The body of an `/extract` response. Vectors stay numpy arrays: the encoders write them natively."""
    words = STATUS_WORDS[status_words]
    took: Took = {"total_ms": total_ms}
    if parameters.verbose_timings:
        done = [result for result in results if isinstance(result, ImageDone)]
        took["read_imgs_ms"] = sum(result.read_ms for result in done)
        took["embed_all_ms"] = sum(result.analysis.embed_ms for result in done)
    data = [image_json(result, parameters, words) for result in results]
    body: ExtractAnswer = {"took": took, "data": data}
    if parameters.embed_only and status_words == "ok":
        # the original's envelope for crops, in addition to the one of every other response
        body["took_ms"], body["status"] = total_ms, words[0]
    return body


def image_json(result: ImageResult, parameters: ExtractParameters, words: tuple[str, str]) -> ImageAnswer:
    """One image: its faces, or its error."""
    good, bad = words
    crops_of_original = parameters.embed_only and good == "ok"
    if isinstance(result, ImageDone):
        faces = faces_json(result.analysis, parameters)
        if crops_of_original:
            faces = [{**face, "status": "ok"} for face in faces]
        return {"status": good, "took_ms": result.took_ms, "faces": faces}
    failed: ImageAnswer = {"status": bad, "took_ms": 0.0, "faces": [], "error": result.error.message}
    if bad == "failed":  # where clients of the original server look for the error; never an actual traceback
        failed["traceback"] = result.error.message
    if crops_of_original:
        crop: FailedCrop = {"status": "failed", "traceback": result.error.message}
        failed["faces"] = [crop]
    return failed


def faces_json(analysis: FaceAnalysis, parameters: ExtractParameters) -> list[FaceAnswer]:
    """The faces of one image."""
    answers = [_face_json(face, parameters.return_landmarks) for face in analysis.faces]
    for answer, face in zip(answers, analysis.faces, strict=True):
        add_extras(
            answer,
            face,
            quality=parameters.return_quality,
            pose=parameters.return_pose,
            landmarks_68=parameters.return_landmarks_68,
        )
    return answers


def _face_json(face: Face, landmarks: bool) -> FaceAnswer:
    traits = face.attributes
    box = np.trunc(face.box).astype(int).tolist()
    return {
        "num_det": face.index,
        "prob": face.score,
        "size": int(face.box[2] - face.box[0]),
        "bbox": box,
        "scale": face.scale,
        "landmarks": np.trunc(face.landmarks).astype(int).tolist() if landmarks else None,
        "norm": face.norm,
        "vec": face.vector,
        "facedata": None if face.crop is None else pybase64.b64encode(face.crop).decode(),
        "gender": traits.gender,
        "age": None if traits.age is None else round(traits.age),
        "mask": traits.mask,
        "mask_probs": None
        if traits.mask_probs is None
        else {"mask": traits.mask_probs[0], "no_mask": traits.mask_probs[1]},
    }


def response_type(request: Request, *, msgpack: bool) -> str:
    """The media type to respond in: MessagePack if the body asked for it or Accept prefers it, else JSON."""
    wanted = [bare(kind) for kind in accepted(request)]
    best = next((kind for kind in wanted if kind in MSGPACK_TYPES), None)
    if best is None:
        return MSGPACK if msgpack else JSON
    return JSON if not msgpack and JSON in wanted[: wanted.index(best)] else best


def render(body: ExtractAnswer | CompareAnswer, kind: str) -> Response:
    """The body in the media type `kind`. numpy arrays are written natively, float32 as float32."""
    return json_response(body) if kind == JSON else msgpack_response(body, kind)
