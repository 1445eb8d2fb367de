"""`/extract`, `/compare`, `/draw_detections` and their multipart forms."""

from typing import Any

import msgspec

from ..steps import FORM, JSON, MSGPACK, Http, Step, as_json, form, post
from .photos import BLACK, FACE, HUGE, OTHER, SAME, TRUNCATED, b64

PLAIN = {"extract_embedding": False}

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no embedding": PLAIN,
    "landmarks": {**PLAIN, "return_landmarks": True},
    "face data": {**PLAIN, "return_face_data": True},
    "age and gender": {**PLAIN, "extract_ga": True},
    "masks": {**PLAIN, "detect_masks": True},
    "timings": {**PLAIN, "verbose_timings": True},
    "limit": {**PLAIN, "limit_faces": 1},
    "negative limit": {**PLAIN, "limit_faces": -1, "min_face_size": -1},
    "least size": {**PLAIN, "min_face_size": 100000},
    "threshold of 1": {**PLAIN, "threshold": 1},
    "nulls mean defaults": {"extract_embedding": None, "threshold": None, "limit_faces": None, "msgpack": None},
    "unknown fields": {**PLAIN, "api_ver": "2", "use_rotation": True},
    "everything": {
        "return_landmarks": True,
        "return_face_data": True,
        "extract_ga": True,
        "detect_masks": True,
        "verbose_timings": True,
    },
}

WRONG: dict[str, dict[str, Any]] = {
    "threshold over 1": {"threshold": 1.5},
    "threshold as text": {"threshold": "high"},
    "limit as text": {"limit_faces": "many"},
    "flag as text": {"extract_embedding": "perhaps"},
    "size as list": {"min_face_size": [1]},
    "several wrong": {"threshold": -1, "limit_faces": "x", "msgpack": 7},
}


def steps() -> list[Step]:
    """All of them."""
    return [*_extract(), *_sources(), *_broken_bodies(), *_compare(), *_draw(), *_multipart()]


def _one(data: bytes = FACE) -> dict[str, Any]:
    return {"images": {"data": [b64(data)]}}


def _packed(name: str, path: str, value: Any, **headers: str) -> Http:
    return Http(name, "POST", path, msgspec.msgpack.encode(value), {"Content-Type": MSGPACK, **headers})


def _extract() -> list[Step]:
    found: list[Step] = []
    for name, options in {**OPTIONS, **WRONG}.items():
        found.append(post(f"extract/json: {name}", "/extract", {**_one(), **options}))
        value = {"images": {"data": [FACE]}, **options}
        found.append(_packed(f"extract/msgpack: {name}", "/extract", value, Accept="application/x-msgpack"))
    for kind in ("application/x-msgpack", "application/msgpack", "application/vnd.msgpack"):
        found.append(
            Http(
                f"extract/{kind} both ways",
                "POST",
                "/extract",
                msgspec.msgpack.encode({"images": {"data": [FACE]}, **PLAIN}),
                {"Content-Type": kind, "Accept": kind},
            )
        )
    accepts = (
        "*/*",
        "text/html",
        "application/json, application/msgpack",
        "application/msgpack, application/json",
        "application/msgpack;q=0.1, application/json",
        "application/msgpack;q=0",
        "application/msgpack;q=x",
    )
    found += [post(f"extract/accept {a}", "/extract", {**_one(BLACK), **PLAIN}, headers={"Accept": a}) for a in accepts]
    return [
        *found,
        post("extract/msgpack wanted in the body", "/extract", {**_one(), **PLAIN, "msgpack": True}),
        post("extract/aligned crop", "/extract", {**_one(BLACK), "embed_only": True}),
        post("extract/several images", "/extract", {"images": {"data": [b64(FACE), b64(BLACK), b64(SAME)]}, **PLAIN}),
        post(
            "extract/each fails alone",
            "/extract",
            {
                "images": {
                    "data": [b64(FACE), b64(TRUNCATED), "!!!", "", b64(b"<svg/>"), b64(HUGE), b64(bytes(1_000_001))]
                },
                **PLAIN,
            },
        ),
        post(
            "extract/data URI",
            "/extract",
            {
                "images": {"data": [f"data:image/jpeg;base64,{b64(FACE)}", "data:,x", "data:image/png;base64,####"]},
                **PLAIN,
            },
        ),
        post("extract/no images", "/extract", {"images": {"data": []}}),
        post("extract/too many images", "/extract", {"images": {"data": [b64(BLACK)] * 9}}),
        _packed("extract/msgpack with base64 text", "/extract", {**_one(), **PLAIN}),
        _packed(
            "extract/msgpack, each fails alone", "/extract", {"images": {"data": [TRUNCATED, b"", b"text"]}, **PLAIN}
        ),
        Http(
            "extract/HTTP chunks",
            "POST",
            "/extract",
            as_json({**_one(), **PLAIN}),
            {"Content-Type": JSON},
            chunked=True,
        ),
        Http("extract/no content type", "POST", "/extract", as_json({**_one(BLACK), **PLAIN})),
        Http(
            "extract/content type +json",
            "POST",
            "/extract",
            as_json({**_one(BLACK), **PLAIN}),
            {"Content-Type": "application/vnd.x+json"},
        ),
        Http(
            "extract/charset",
            "POST",
            "/extract",
            as_json({**_one(BLACK), **PLAIN}),
            {"Content-Type": "Application/JSON; charset=utf-8"},
        ),
        post("extract/with a slash at its end", "/extract/", {**_one(BLACK), **PLAIN}),
    ]


def _sources() -> list[Step]:
    def urls(*locations: str, **more: Any) -> dict[str, Any]:
        return {"images": {"urls": list(locations)}, **PLAIN, **more}

    return [
        post("extract/url", "/extract", urls("{{web}}/person_a_1.jpg")),
        post("extract/url with headers", "/extract", urls("{{web}}/person_a_1.jpg", img_req_headers={"X-Own": "1"})),
        post("extract/url not found", "/extract", urls("{{web}}/nobody.jpg")),
        post("extract/url nobody answers", "/extract", urls("http://127.0.0.1:1/a.jpg")),
        post(
            "extract/url of another scheme", "/extract", urls("ftp://127.0.0.1/a.jpg", "file:///etc/passwd", "http://")
        ),
        post("extract/path", "/extract", urls("people/person_a_1.jpg")),
        post("extract/path outside", "/extract", urls("../outside.jpg", "link.jpg", "/etc/passwd")),
        post("extract/path not found", "/extract", urls("people/nobody.jpg", "people")),
        post(
            "extract/urls win over data",
            "/extract",
            {"images": {"urls": ["people/person_a_1.jpg"], "data": [b64(BLACK)]}, **PLAIN},
        ),
        post("extract/empty urls hide nothing", "/extract", {"images": {"urls": [], "data": [b64(BLACK)]}, **PLAIN}),
        post("extract/bad request headers", "/extract", urls("{{web}}/person_a_1.jpg", img_req_headers={"a": 1})),
        post(
            "extract/header with a line break",
            "/extract",
            urls("{{web}}/person_a_1.jpg", img_req_headers={"X-A": "1\r\nX-B: 2"}),
        ),
    ]


def _broken_bodies() -> list[Step]:
    bodies: dict[str, tuple[bytes, str]] = {
        "no JSON": (b"{", JSON),
        "empty": (b"", JSON),
        "a list": (b"[]", JSON),
        "a text": (b'"x"', JSON),
        "null": (b"null", JSON),
        "not UTF-8": (b'{"images": "\xff"}', JSON),
        "images missing": (b"{}", JSON),
        "images a list": (b'{"images": []}', JSON),
        "data a text": (b'{"images": {"data": "x"}}', JSON),
        "data of numbers": (b'{"images": {"data": [1, null, {}]}}', JSON),
        "infinite threshold": (b'{"images": {"data": []}, "threshold": 1e999}', JSON),
        "nested deeply": (b'{"images":' + b"[" * 300 + b"]" * 300 + b"}", JSON),
        "no MessagePack": (b"\xc1", MSGPACK),
        "MessagePack, cut": (b"\x81\xa6image", MSGPACK),
        "MessagePack list": (b"\x90", MSGPACK),
        "MessagePack empty": (b"", MSGPACK),
        "text/plain": (b"{}", "text/plain"),
        "form": (b"a=b", "application/x-www-form-urlencoded"),
        "multipart on the JSON route": (b"", FORM),
        "unknown type": (b"{}", "application/pdf"),
    }
    found: list[Step] = []
    for path in ("/extract", "/compare", "/draw_detections"):
        chosen = bodies if path == "/extract" else {n: bodies[n] for n in ("no JSON", "no MessagePack", "text/plain")}
        for name, (body, kind) in chosen.items():
            found.append(Http(f"{path[1:]}/{name}", "POST", path, body, {"Content-Type": kind}))
    found.append(Http("extract/too large", "POST", "/extract", b" " * 3_000_001, {"Content-Type": JSON}))
    found.append(
        Http("extract/too large in chunks", "POST", "/extract", b" " * 3_000_001, {"Content-Type": JSON}, chunked=True)
    )
    return found


def _compare() -> list[Step]:
    def pair(*images: bytes, **more: Any) -> dict[str, Any]:
        return {"images": {"data": [b64(image) for image in images]}, **more}

    return [
        post("compare/same person", "/compare", pair(FACE, SAME)),
        post("compare/two people", "/compare", pair(FACE, OTHER, detect_masks=True)),
        post("compare/no face on one side", "/compare", pair(FACE, BLACK)),
        post("compare/one image", "/compare", pair(FACE)),
        post("compare/three images", "/compare", pair(FACE, FACE, FACE)),
        post("compare/one is broken", "/compare", pair(FACE, TRUNCATED)),
        post("compare/one is no image", "/compare", pair(b"text", FACE)),
        post("compare/urls", "/compare", {"images": {"urls": ["people/person_a_1.jpg", "people/nobody.jpg"]}}),
        post("compare/wrong field", "/compare", pair(FACE, FACE, threshold=2)),
        post("compare/own limit", "/compare", pair(FACE, OTHER, same_threshold=-1)),
        post("compare/wrong limit", "/compare", pair(FACE, OTHER, same_threshold=2)),
        _packed("compare/msgpack", "/compare", {"images": {"data": [FACE, SAME]}}, Accept=MSGPACK),
    ]


def _draw() -> list[Step]:
    return [
        post("draw_detections/json", "/draw_detections", _one()),
        post(
            "draw_detections/nothing but boxes",
            "/draw_detections",
            {**_one(), "draw_landmarks": False, "draw_scores": False, "draw_sizes": False, "detect_masks": True},
        ),
        post("draw_detections/no image", "/draw_detections", {"images": {}}),
        post("draw_detections/broken image", "/draw_detections", _one(TRUNCATED)),
        post("draw_detections/huge image", "/draw_detections", _one(HUGE)),
        post("draw_detections/wrong field", "/draw_detections", {**_one(), "draw_scores": "x"}),
        post("draw_detections/url refused", "/draw_detections", {"images": {"urls": ["/etc/passwd"]}}),
        _packed("draw_detections/msgpack", "/draw_detections", {"images": {"data": [FACE]}}),
    ]


def _multipart() -> list[Step]:
    def sent(name: str, path: str, *parts: Any, kind: str = FORM, **headers: str) -> Http:
        return Http(name, "POST", path, form(*parts), {"Content-Type": kind, **headers})

    face = ("file", FACE, "a.jpg", "image/jpeg")
    plain = ("extract_embedding", "false")
    found: list[Step] = []
    for route in ("extract", "draw_detections"):
        path, area = f"/multipart/{route}", f"multipart {route}"
        found += [
            sent(f"{area}/no file", path, plain),
            sent(f"{area}/wrong field", path, face, ("threshold", "high")),
            sent(f"{area}/broken image", path, ("file", TRUNCATED, "a.jpg"), plain),
            sent(f"{area}/other type", path, face, kind=JSON),
            sent(f"{area}/no boundary", path, face, kind="multipart/form-data"),
            Http(f"{area}/cut form", "POST", path, form(face)[:200], {"Content-Type": FORM}),
            sent(f"{area}/too many files", path, *[("file", BLACK, "a.png")] * 9),
            sent(f"{area}/too large", path, ("file", bytes(3_000_000), "a.jpg")),
        ]
    return [
        *found,
        sent("multipart extract/one", "/multipart/extract", face),
        sent(
            "multipart extract/options",
            "/multipart/extract",
            face,
            plain,
            ("return_landmarks", "true"),
            ("limit_faces", "1"),
        ),
        sent("multipart extract/blank fields mean defaults", "/multipart/extract", face, plain, ("threshold", "")),
        sent("multipart extract/several, any names", "/multipart/extract", face, ("b", BLACK, "b.png"), plain),
        sent("multipart extract/answer in msgpack", "/multipart/extract", face, plain, Accept=MSGPACK),
        sent("multipart extract/msgpack wanted", "/multipart/extract", face, plain, ("msgpack", "true")),
        sent("multipart compare/two", "/multipart/compare", face, ("b", SAME, "b.jpg"), ("same_threshold", "1")),
        sent("multipart compare/one", "/multipart/compare", face),
        sent("multipart compare/broken image", "/multipart/compare", face, ("b", TRUNCATED, "b.jpg")),
        sent("multipart draw_detections/one", "/multipart/draw_detections", face),
        sent("multipart draw_detections/options", "/multipart/draw_detections", face, ("draw_scores", "0")),
    ]
