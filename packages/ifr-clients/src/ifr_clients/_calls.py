"""The routes: turns arguments into requests, and responses into results. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from pydantic import BaseModel

from ifr_clients._images import request_body
from ifr_clients._messages import JSON, Call, Request, Response, content_headers
from ifr_clients._responses import parse_complete, parse_jpeg, parse_map, parse_recognition, typed
from ifr_clients._server import USER_AGENT, Settings, split_address
from ifr_clients.schemas import CompareResponse, RecognitionResponse

M = TypeVar("M", bound=BaseModel)
Parser = Callable[[Response], M | dict[str, Any]]
UNKNOWN_TO_ORIGINALS = ("return_quality", "return_pose", "return_landmarks_68")
"""Sent only when asked for: an original server gets the fields that it knows."""
DetectionSize: TypeAlias = int | Literal["auto", "full"]
"""The longest side, in pixels, to which the server scales an image down to find faces; None leaves it to the server."""


class FindOptions(TypedDict, total=False):
    """The arguments of all routes that find faces."""

    threshold: float
    limit_faces: int
    min_face_size: int
    detect_masks: bool
    img_req_headers: dict[str, str] | None
    detection_size: DetectionSize | None
    rotate: Literal["auto", "off"] | None


class DescribeOptions(FindOptions, total=False):
    """The arguments of the routes that return faces."""

    return_quality: bool
    return_pose: bool
    return_landmarks_68: bool
    recogniser: str | None


class ExtractOptions(DescribeOptions, total=False):
    """The arguments of `extract` that are fields of its request."""

    extract_embedding: bool
    return_face_data: bool
    return_landmarks: bool
    embed_only: bool
    extract_ga: bool
    verbose_timings: bool


class CompareOptions(DescribeOptions, total=False):
    """The arguments of `compare` that are fields of its request."""

    same_threshold: float | None


class DrawOptions(FindOptions, total=False):
    """The arguments of `draw` that are fields of its request."""

    draw_landmarks: bool
    draw_scores: bool
    draw_sizes: bool


def extract(
    settings: Settings, images: Sequence[str | bytes], options: ExtractOptions, *, msgpack: bool, raw: bool
) -> Call[dict[str, Any] | RecognitionResponse]:
    """`POST /extract`."""
    parse: Parser[RecognitionResponse]
    parse = parse_recognition if raw else typed(parse_complete(len(images)), RecognitionResponse)
    fields = {**_sendable(options), "msgpack": msgpack}
    return Call(_post(settings, "/extract", images, fields, msgpack=msgpack), parse)


def compare(
    settings: Settings, images: Sequence[str | bytes], options: CompareOptions, *, msgpack: bool, raw: bool
) -> Call[dict[str, Any] | CompareResponse]:
    """`POST /compare`, which original servers do not have."""
    parse: Parser[CompareResponse]
    parse = parse_map if raw else typed(parse_map, CompareResponse)
    return Call(_post(settings, "/compare", images, _sendable(options), msgpack=msgpack), parse)


def draw(settings: Settings, images: Sequence[str | bytes], options: DrawOptions) -> Call[bytes]:
    """`POST /draw_detections` with one image; always JSON, since original servers accept nothing else here."""
    return Call(_post(settings, "/draw_detections", images, _sendable(options), msgpack=False), parse_jpeg)


def health(settings: Settings) -> Call[dict[str, Any]]:
    """`GET /health`."""
    return Call(_get(settings.server, "/health", settings.headers), parse_map)


def server_info(settings: Settings, server: str | None) -> Call[dict[str, Any]]:
    """`GET /info` of the client's server, or of another, which never receives the client's key and headers."""
    if server is None:
        return Call(_get(settings.server, "/info", settings.headers), parse_map)
    address, credentials = split_address(server)
    if address == settings.server:
        return Call(_get(address, "/info", settings.headers), parse_map)
    headers = {"User-Agent": USER_AGENT} | ({"Authorization": credentials} if credentials else {})
    return Call(_get(address, "/info", headers), parse_map)


def describe(server: str, info: Mapping[str, Any]) -> str:
    """What `server_info(show=True)` prints: which models are used, and how they run."""
    models = info.get("models")
    models = models if isinstance(models, dict) else {}
    size = models.get("max_size")
    sides = " x ".join(str(side) for side in size) if isinstance(size, list) else size
    lines = {
        "server": server,
        "version": info.get("version"),
        "backend": models.get("inference_backend"),
        "detection": _with_batch(models.get("det_name"), models.get("det_batch_size")),
        "recognition": _with_batch(models.get("rec_name"), models.get("rec_batch_size")),
        "image size": sides,
    }
    return "".join(f"{name + ':':<13}{'-' if value is None else value}\n" for name, value in lines.items())


def _with_batch(name: Any, batch: Any) -> str | None:
    return None if name is None else f"{name}, batch size {'-' if batch is None else batch}"


def _sendable(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: value
        for name, value in options.items()
        if value or (value is not None and name not in UNKNOWN_TO_ORIGINALS)
    }
    return {**given, "img_req_headers": options.get("img_req_headers") or {}}


def _post(
    settings: Settings, path: str, images: Sequence[str | bytes], fields: Mapping[str, Any], *, msgpack: bool
) -> Request:
    body = request_body(images, fields, msgpack=msgpack)
    return Request("POST", settings.server + path, {**settings.headers, **content_headers(msgpack=msgpack)}, body)


def _get(server: str, path: str, headers: Mapping[str, str]) -> Request:
    return Request("GET", server + path, {**headers, "Accept": JSON})
