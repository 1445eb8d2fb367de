"""`/v1/infer` in every encoding and framing, every service and task."""

from typing import Any
from urllib.parse import quote

import msgspec

from ..steps import FORM, JSON, MSGPACK, Http, Socket, Step, as_json, form, post
from .photos import BLACK, FACE, HUGE, TEXT, TRUNCATED, b64

PATH = "/v1/infer"
TASKS = {
    "face_detection": ("face_detect", "face_detector_v1", "face_detection", "face_detector"),
    "face_recognition": (
        "face_recognition",
        "face_embed",
        "face_detect_and_embed",
        "face_recognizer_v1",
        "face_recogniser",
        "face_recognizer",
        "face_embedding",
    ),
    "embedding": (
        "embed",
        "lumen_clip_embed",
        "clip_embed",
        "lumen_embed",
        "semantic_image_embed",
        "clip_image_embed",
        "bioclip_image_embed",
        "smartclip_image_embed",
        "image_embed",
    ),
    "classification": (
        "image_classify",
        "clip_classify",
        "bioclip_classify",
        "smartclip_classify",
        "smartclip_bioclassify",
        "lumen_clip_classify",
        "imagenet_classify",
        "classify",
    ),
}
TEXT_TASKS = ("semantic_text_embed", "clip_text_embed", "bioclip_text_embed", "smartclip_text_embed", "text_embed")
FRAMINGS = (
    "",
    "*/*",
    "text/event-stream",
    "application/x-ndjson",
    "application/ndjson",
    "application/json",
    "text/html",
    "text/event-stream;q=0.1, application/x-ndjson",
    "application/octet-stream",
)
OWN_TYPE = "application/json;schema=face_v1"


def steps() -> list[Step]:
    """All of them."""
    return [
        *_services(),
        *_encodings(),
        *_answers(),
        *_streams(),
        *_metadata(),
        *_wrong(),
        Socket("infer/watch", "/v1/nodes/watch"),
    ]


def _ask(name: str, payload: Any, *, path: str = PATH, headers: dict[str, str] | None = None, **fields: Any) -> Http:
    given = b64(payload) if isinstance(payload, bytes) else payload
    value = {"correlation_id": "c-1", **fields, "payload": given}
    return post(f"infer/{name}", path, value, headers=headers or {})


def _services() -> list[Step]:
    found: list[Step] = []
    for service, tasks in TASKS.items():
        found.append(_ask(f"{service}", FACE, service=service))
        found += [_ask(f"{service}: task {task}", BLACK, service=service, task=task) for task in tasks]
        found.append(_ask(f"task {tasks[1]} without a service", BLACK, task=tasks[1]))
    found += [_ask(f"embedding: task {task}", TEXT.encode(), service="embedding", task=task) for task in TEXT_TASKS]
    return [
        *found,
        _ask("embedding of a text", TEXT.encode(), service="embedding"),
        _ask("blanks and capitals", BLACK, service="  Face_Detection ", task=" FACE_DETECT "),
        _ask("text for images", TEXT.encode(), service="embedding", task="image_embed"),
        _ask("image for texts", BLACK, service="embedding", task="text_embed"),
        _ask("text for faces", TEXT.encode(), service="face_detection"),
        _ask("bytes for either", b"\xff\xfe\x00\x01", service="embedding"),
        _ask("task of another service", BLACK, service="embedding", task="image_classify"),
        _ask("unknown service", BLACK, service="ocr"),
        _ask("unknown task", BLACK, service="embedding", task="nothing"),
        _ask("unknown task alone", BLACK, task="nothing"),
        _ask("neither service nor task", BLACK),
        _ask("broken image", TRUNCATED, service="face_detection"),
        _ask("huge image", HUGE, service="classification"),
        _ask("no payload", None, service="embedding"),
        _ask("with a slash at its end", BLACK, service="classification", path=f"{PATH}/"),
    ]


def _encodings() -> list[Step]:
    meta = '{"max_faces": "1"}'
    query = f"service=face_detection&correlation_id=c-2&metadata={quote(meta)}"
    fields = {"service": "face_detection", "correlation_id": "c-2", "metadata": {"max_faces": "1"}}

    def body(name: str, kind: str, content: bytes, path: str = PATH, **headers: str) -> Http:
        return Http(f"infer/{name}", "POST", path, content, {"Content-Type": kind, **headers} if kind else headers)

    parts = (("service", "face_detection"), ("correlation_id", "c-2"), ("metadata", meta))
    return [
        *(
            body(f"msgpack {kind}", kind, msgspec.msgpack.encode({**fields, "payload": FACE}))
            for kind in (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
        ),
        body("msgpack with base64 text", MSGPACK, msgspec.msgpack.encode({**fields, "payload": b64(FACE)})),
        body("msgpack list of payloads", MSGPACK, msgspec.msgpack.encode([FACE, BLACK]), f"{PATH}?{query}"),
        body("msgpack with integer keys", MSGPACK, msgspec.msgpack.encode({1: 2})),
        body("octet-stream", "application/octet-stream", FACE, f"{PATH}?{query}"),
        body(
            "octet-stream, id in a header",
            "application/octet-stream",
            BLACK,
            f"{PATH}?service=classification",
            **{"X-Correlation-Id": "h-1"},
        ),
        body("image/jpeg", "image/jpeg", FACE, f"{PATH}?{query}"),
        body("image/jpeg without a service", "image/jpeg", BLACK),
        body("multipart", FORM, form(*parts, ("payload", FACE, "a.jpg", "image/jpeg"))),
        body("multipart batch", FORM, form(*parts, ("payload", FACE, "a.jpg"), ("payload", TRUNCATED, "b.jpg"))),
        body("multipart, payload as a field", FORM, form(("service", "embedding"), ("payload", TEXT))),
        body(
            "multipart, meta",
            FORM,
            form(("service", "classification"), ("meta", '{"top_k": "2"}'), ("payload", BLACK, "b")),
        ),
        body("multipart without payload", FORM, form(*parts)),
        body("multipart, broken metadata", FORM, form(("service", "embedding"), ("metadata", "{"), ("payload", "x"))),
        body("multipart without boundary", "multipart/form-data", form(*parts)),
        body("multipart, too many payloads", FORM, form(*parts, *[("payload", BLACK, "b")] * 9)),
        body("no content type", "", as_json({**fields, "payload": b64(FACE)})),
        body("content type +json", "application/x+json", as_json({**fields, "payload": b64(BLACK)})),
        body("text/plain", "text/plain", b"{}"),
        body("urlencoded form", "application/x-www-form-urlencoded", b"service=embedding"),
        body("json list of payloads", JSON, as_json([b64(FACE), b64(BLACK), b64(TRUNCATED)]), f"{PATH}?{query}"),
        body("query says what the body does not", JSON, as_json({"payload": b64(FACE)}), f"{PATH}?{query}"),
        body("body wins over the query", JSON, as_json({**fields, "payload": b64(BLACK)}), f"{PATH}?service=nothing"),
        Http(
            "infer/HTTP chunks",
            "POST",
            PATH,
            as_json({**fields, "payload": b64(BLACK)}),
            {"Content-Type": JSON},
            chunked=True,
        ),
        _ask("names in any case", BLACK, Service="classification", META={"top_k": "1"}),
        _ask("list of byte values", list(BLACK), service="classification"),
        _ask("batch in payload", [b64(FACE), b64(BLACK), None], service="face_detection"),
        _ask("batch of texts", [b64(b"one"), b64(b"two")], service="embedding"),
        _ask("data URI", f"data:image/png;base64,{b64(BLACK)}", service="classification"),
        _ask("base64 without padding, with line breaks", b64(b"text").rstrip("=") + "\r\n", service="embedding"),
        _ask("later body: service in meta", b64(BLACK), meta={"service": "classification"}, payload_mime="image/png"),
        _ask("later body: raw text", TEXT, task="semantic_text_embed", payload_mime="text/plain"),
        _ask("media type wins over bytes", BLACK, service="embedding", payload_mime="text/plain"),
    ]


def _answers() -> list[Step]:
    found: list[Step] = []
    for service in TASKS:
        found.append(_ask(f"{service} decoded", FACE, service=service, path=f"{PATH}?decode=1"))
        found.append(_ask(f"{service} bare", FACE, service=service, headers={"Accept": "application/octet-stream"}))
    return [
        *found,
        _ask("bare by its own type", FACE, service="face_detection", headers={"Accept": OWN_TYPE}),
        _ask(
            "bare with a strange id",
            BLACK,
            service="face_detection",
            correlation_id="ü % \n",
            headers={"Accept": "application/octet-stream"},
        ),
        _ask("decode=true", BLACK, service="classification", path=f"{PATH}?decode=true"),
        _ask("decode=no", BLACK, service="classification", path=f"{PATH}?decode=no"),
        _ask("decoded batch", [b64(b"one"), b64(b"\xff")], service="embedding", path=f"{PATH}?decode=1"),
        _ask("id in a header", BLACK, service="classification", correlation_id="", headers={"X-Correlation-Id": "h-1"}),
        _ask("no id", BLACK, service="classification", correlation_id=""),
        _ask(
            "request id is the id", BLACK, service="classification", correlation_id="", headers={"X-Request-Id": "r-1"}
        ),
        _ask("id too long", BLACK, service="classification", correlation_id="x" * 257),
        _ask(
            "id of an error in a header",
            BLACK,
            service="nothing",
            correlation_id="",
            headers={"X-Correlation-Id": "h-2"},
        ),
    ]


def _streams() -> list[Step]:
    found: list[Step] = []
    for accept in FRAMINGS:
        headers = {"Accept": accept} if accept else {}
        found.append(_ask(f"stream as {accept or 'nothing'}", FACE, service="face_detection_stream", headers=headers))
    for service in TASKS:
        found.append(_ask(f"{service}_stream", FACE, service=f"{service}_stream"))
        found.append(_ask(f"{service}_stream decoded", BLACK, service=f"{service}_stream", path=f"{PATH}?decode=1"))
    for accept in ("text/event-stream", "application/x-ndjson"):
        batch = [b64(b"one"), b64(b"two")]
        found.append(
            _ask(f"batch stream as {accept}", batch[:1], service="embedding_stream", headers={"Accept": accept})
        )
    msgpacked = msgspec.msgpack.encode({"service": "classification_stream", "payload": BLACK, "correlation_id": "c-3"})
    return [
        *found,
        _ask(
            "stream of a broken image",
            TRUNCATED,
            service="face_detection_stream",
            headers={"Accept": "text/event-stream"},
        ),
        _ask("stream of an unknown service", BLACK, service="nothing_stream"),
        _ask("stream of a wrong value", FACE, service="face_detection_stream", metadata={"max_faces": "x"}),
        _ask("stream, time is up", [b64(FACE)] * 8, service="face_recognition_stream", metadata={"timeout_ms": "1"}),
        Http("infer/stream of msgpack", "POST", PATH, msgpacked, {"Content-Type": MSGPACK}),
        Http(
            "infer/stream of a form",
            "POST",
            PATH,
            form(("service", "embedding_stream"), ("payload", TEXT)),
            {"Content-Type": FORM, "Accept": "application/x-ndjson"},
        ),
        Http(
            "infer/stream of bytes",
            "POST",
            f"{PATH}?service=classification_stream",
            BLACK,
            {"Content-Type": "image/png"},
        ),
    ]


def _metadata() -> list[Step]:
    found: list[Step] = []
    face = {
        "detection_confidence_threshold": ("0.99", "1", "0", " 0.5 ", "1.5", "high", "nan", "-0.1"),
        "nms_threshold": ("0.1", "2"),
        "face_size_min": ("10000", "-1", "1e1"),
        "face_size_max": ("10", "x"),
        "max_faces": ("1", "0", "-1", "-2", "1.5", ""),
    }
    for key, values in face.items():
        for value in values:
            found.append(
                _ask(
                    f"metadata {key}={value!r}", FACE, service="face_detection", metadata={"max_faces": "2", key: value}
                )
            )
    for key in ("top_k", "topk", "TopK", "topK", "top-k", "lumen.top_k"):
        found.append(_ask(f"metadata {key}", BLACK, service="classification", metadata={key: "2"}))
    for value in ("0", "x", "100000"):
        found.append(_ask(f"metadata top_k={value}", BLACK, service="classification", metadata={"top_k": value}))
    return [
        *found,
        _ask("metadata top_k twice", BLACK, service="classification", metadata={"top_k": "2", "topk": "3"}),
        _ask(
            "metadata sizes crossed",
            FACE,
            service="face_detection",
            metadata={"face_size_min": "9", "face_size_max": "8"},
        ),
        _ask("metadata unknown key", BLACK, service="face_detection", metadata={"colour": "blue"}),
        _ask("metadata no map", BLACK, service="face_detection", metadata=[1]),
        _ask("metadata with a number", BLACK, service="face_detection", metadata={"max_faces": 1}),
        _ask("timeout in metadata", [b64(FACE)] * 8, service="face_recognition", metadata={"timeout_ms": "1"}),
        _ask("timeout in a header", [b64(FACE)] * 8, service="face_recognition", headers={"X-Timeout-Ms": "1"}),
        *(
            _ask(f"timeout of {v!r}", BLACK, service="classification", metadata={"timeout_ms": v})
            for v in ("0", "x", "100000")
        ),
        _ask("timeout header of no number", BLACK, service="classification", headers={"X-Timeout-Ms": "-5"}),
    ]


def _wrong() -> list[Step]:
    bodies = {
        "no JSON": b"{",
        "empty": b"",
        "a number": b"7",
        "a text": b'"x"',
        "empty list": b"[]",
        "empty map": b"{}",
        "not UTF-8": b'{"service": "\xff"}',
        "service a number": b'{"service": 1}',
        "payload a map": b'{"payload": {}}',
        "payload numbers too large": b'{"payload": [256]}',
        "payload mixed": b'{"payload": ["YQ==", 1]}',
        "payload no base64": b'{"service": "embedding", "payload": "!!!"}',
        "half a surrogate": b'{"service": "\\ud800"}',
    }
    return [
        *(Http(f"infer/body: {name}", "POST", PATH, body, {"Content-Type": JSON}) for name, body in bodies.items()),
        Http("infer/body: no MessagePack", "POST", PATH, b"\xc1", {"Content-Type": MSGPACK}),
        Http("infer/body: too large", "POST", PATH, b" " * 3_000_001, {"Content-Type": JSON}),
        _ask("too many payloads", [b64(BLACK)] * 9, service="face_detection"),
        _ask("payload too large", bytes(1_100_000), service="face_detection"),
    ]
