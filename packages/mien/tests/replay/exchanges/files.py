"""Files: records, uploads to signed URLs, contents with ranges."""

import hashlib
from typing import Any

from ..steps import FORM, JSON, Http, Step, form, get, post
from .photos import FACE

CONTENT = b"0123456789" * 10
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


def steps() -> list[Step]:
    """All of them."""
    return [*_by_form(), *_by_url(), *_reading(), *_wrong(), *_listing()]


def _form(name: str, *parts: Any, headers: dict[str, str] | None = None, capture: dict[str, str] | None = None) -> Http:
    return Http(
        f"files/{name}",
        "POST",
        "/files",
        form(*parts),
        {"Content-Type": FORM, **(headers or {})},
        capture=capture or {},
    )


def _by_form() -> list[Step]:
    return [
        get("files/none yet", "/files"),
        _form(
            "form",
            ("file", CONTENT, "note.txt", "text/plain"),
            capture={"file.text": "data.id", "text_path": "data.uri", "file.text_uri": "data.uri"},
        ),
        _form(
            "form, public",
            ("file", FACE, "face one.jpg"),
            ("public", "true"),
            capture={"file.face": "data.id", "face_path": "data.uri", "file.face_uri": "data.uri"},
        ),
        _form(
            "form with fields",
            ("file", b"<p>hi", "x"),
            ("filename", 'ü "q".html'),
            ("path", "a/b"),
            ("content_type", "text/html"),
            headers={"X-API-Version": "2"},
            capture={"file.html": "id", "html_path": "uri"},
        ),
        _form("form, type contradicted by content", ("file", FACE, "a.png", "image/png")),
        _form(
            "form, empty file", ("file", b"", "empty.bin"), capture={"file.empty": "data.id", "empty_path": "data.uri"}
        ),
        _form("form without file", ("name", "x")),
        _form("form too large", ("file", bytes(200_001), "big.bin")),
        Http("files/form without boundary", "POST", "/files", b"x", {"Content-Type": "multipart/form-data"}),
    ]


def _by_url() -> list[Step]:
    def put(name: str, where: str, body: bytes = CONTENT, **headers: str) -> Http:
        return Http(f"files/put: {name}", "PUT", where, body, headers)

    one = {"filename": "a.bin", "content_type": "application/octet-stream", "size": 100}
    return [
        post(
            "files/record",
            "/files",
            {"files": [one]},
            capture={"file.put": "data.0.id", "put_path": "data.0.upload_url"},
        ),
        get("files/record before its content", "/files/{{file.put}}"),
        put("fewer bytes than announced", "{{put_path}}", b"few"),
        put("more bytes than announced", "{{put_path}}", bytes(101)),
        put("no signature", "/files/{{file.put}}/a.bin"),
        put("wrong signature", "/files/{{file.put}}/a.bin?expires=9999999999&signature=abc"),
        put("expired", "/files/{{file.put}}/a.bin?expires=1&signature=abc"),
        get("files/content before it is there", "/files/{{file.put}}/a.bin", headers={"X-API-Key": "any"}),
        put("content", "{{put_path}}", **{"Content-Type": "application/octet-stream"}),
        put("again", "{{put_path}}", b"x" * 100),
        get("files/record with its content", "/files/{{file.put}}", capture={"read_path": "data.uri"}),
        Http("files/put: in HTTP chunks", "PUT", "{{put_path}}", CONTENT, chunked=True),
        post("files/two records", "/files", {"files": [{"path": "dir/b.png"}, {"public": True}]}),
        post(
            "files/record without a list",
            "/files",
            {"filename": "c.txt"},
            capture={"file.bare": "data.0.id", "bare_path": "data.0.upload_url"},
        ),
        put("too large", "{{bare_path}}", bytes(200_001)),
        put("text", "{{bare_path}}", b"hello", **{"Content-Type": "text/plain; charset=latin-1"}),
        post("files/record, bare answer", "/files", {"filename": "d.txt"}, headers={"X-API-Version": "2"}),
    ]


def _reading() -> list[Step]:
    def read(name: str, where: str = "{{text_path}}", method: str = "GET", **headers: str) -> Http:
        return Http(f"files/read: {name}", method, where, None, headers)

    ranges = (
        "bytes=0-9",
        "bytes=90-",
        "bytes=-5",
        "bytes=0-1000",
        "bytes=100-",
        "bytes=5-2",
        "bytes=0-0,5-6",
        "bytes=-0",
        "lines=1-2",
        "bytes=x",
    )
    return [
        read("signed"),
        read("HEAD of a signed GET", method="HEAD"),
        read("HEAD with a key header", "/files/{{file.text}}/note.txt", "HEAD", **{"X-API-Key": "any"}),
        *(read(f"range {wanted}", Range=wanted) for wanted in ranges),
        read("range of HEAD", "{{face_path}}", "HEAD", Range="bytes=0-9"),
        read("if-range that fits", Range="bytes=0-1", **{"If-Range": ETAG}),
        read("if-range of other content", Range="bytes=0-1", **{"If-Range": '"x"'}),
        read("not modified", **{"If-None-Match": f'W/"a", {ETAG}'}),
        read("any tag", **{"If-None-Match": "*"}),
        read("other tag", **{"If-None-Match": '"x"'}),
        read("public, unsigned", "{{face_path}}"),
        read("private, unsigned", "/files/{{file.text}}/note.txt"),
        read("with a bearer", "/files/{{file.text}}/other-name.txt", Authorization="Bearer any"),
        read("what a browser could run", "{{html_path}}"),
        read("empty file", "{{empty_path}}"),
        read("empty file, range", "{{empty_path}}", Range="bytes=0-"),
        read("wrong signature", "/files/{{file.text}}/note.txt?expires=9999999999&signature=abc"),
        read("signature alone", "/files/{{file.text}}/note.txt?signature=abc"),
        read("unknown file", "/files/00000000000000000000000000/x"),
        read("unknown file with a key header", "/files/00000000000000000000000000/x", **{"X-API-Key": "any"}),
    ]


def _wrong() -> list[Step]:
    bodies: dict[str, Any] = {
        "empty list": {"files": []},
        "no list": {"files": "x"},
        "item no map": {"files": [1]},
        "size negative": {"files": [{"size": -1}]},
        "size as text": {"files": [{}, {"size": "x"}]},
        "too many": {"files": [{}] * 101},
        "nothing": {},
        "a list": [],
    }
    return [
        *(post(f"files/wrong: {name}", "/files", value) for name, value in bodies.items()),
        Http("files/wrong: no JSON", "POST", "/files", b"{", {"Content-Type": JSON}),
        Http(
            "files/wrong: nested", "POST", "/files", b'{"files":' + b"[" * 70 + b"]" * 70 + b"}", {"Content-Type": JSON}
        ),
        Http("files/wrong: type", "POST", "/files", b"x", {"Content-Type": "text/plain"}),
        Http("files/wrong: method", "PATCH", "/files"),
        get("files/unknown", "/files/00000000000000000000000000"),
        get("files/unknown, problem", "/files/nobody", headers={"User-Agent": "inference-sdk-py/0.7.8"}),
    ]


def _listing() -> list[Step]:
    return [
        get("files/list", "/files"),
        get("files/list, bare", "/files", headers={"X-API-Version": "2"}),
        get("files/list, wrong cursor", "/files?cursor=x"),
        Http("files/delete", "DELETE", "/files/{{file.html}}"),
        Http("files/delete again", "DELETE", "/files/{{file.html}}"),
        get("files/read after delete", "{{html_path}}"),
    ]
