"""Request → status and body: every row of what the original accepts, with its bugs out."""

import base64
import json
from typing import Any

import ormsgpack
import pytest

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def said(response: Any) -> dict[str, Any]:
    """What the echo was asked, out of a sync answer."""
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["success"] is True
    decoded: dict[str, Any] = json.loads(base64.b64decode(body["data"]["result"]))
    return decoded


def first(response: Any) -> bytes:
    return bytes.fromhex(said(response)["items"][0]["hex"])


# --- JSON bodies


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(b64(JPEG), JPEG, id="padded"),
        pytest.param(b64(JPEG)[:40] + "\n" + b64(JPEG)[40:80] + "\r\n" + b64(JPEG)[80:], JPEG, id="newlines"),
        pytest.param("aGk", b"hi", id="unpadded"),
        pytest.param(base64.urlsafe_b64encode(b"\xfb\xff\xfe").decode(), b"\xfb\xff\xfe", id="url-safe"),
        pytest.param(None, b"", id="null"),
        pytest.param("", b"", id="empty"),
        pytest.param([], b"", id="empty list"),
        pytest.param([104, 105], b"hi", id="byte numbers"),
        pytest.param("data:text/plain;base64,aGk=", b"hi", id="data uri"),
    ],
)
def test_json_payloads(api: Any, payload: Any, expected: bytes) -> None:
    assert first(api.infer(service="echo", payload=payload)) == expected


def test_absent_payload_is_empty(api: Any) -> None:
    assert first(api.infer(service="echo")) == b""


def test_field_names_in_any_case(api: Any) -> None:
    heard = said(api.infer(SERVICE="echo", Task="ECHO_V1", PAYLOAD="aGk=", Metadata={"A": "b"}, Correlation_ID="c"))
    assert (heard["task"], heard["metadata"], heard["correlation_id"]) == ("ECHO_V1", {"A": "b"}, "c")


def test_unknown_fields_are_ignored(api: Any) -> None:
    assert first(api.infer(service="echo", payload="aGk=", what={"is": ["this"]})) == b"hi"


@pytest.mark.parametrize("service", ["echo", "  ECHO ", "Echo"])
def test_lookup_trims_and_ignores_case(api: Any, service: str) -> None:
    assert first(api.infer(service=service, payload="aGk=")) == b"hi"


def test_query_says_what_the_body_does_not(api: Any) -> None:
    heard = said(api.client.post("/v1/infer?service=echo&task=echo_task", json={"payload": "aGk="}))
    assert heard["task"] == "echo_task"


def test_body_wins_over_the_query(api: Any) -> None:
    heard = said(api.client.post("/v1/infer?service=failing&task=x", json={"service": "echo", "task": "echo_v1"}))
    assert heard["task"] == "echo_v1"


# --- other encodings


def test_multipart(api: Any) -> None:
    response = api.client.post(
        "/v1/infer",
        data={"service": "echo", "task": "echo_v1", "correlation_id": "m-1", "metadata": '{"k": "v"}'},
        files={"payload": ("image.jpg", JPEG, "image/jpeg")},
    )
    heard = said(response)
    assert heard == {
        "items": [{"hex": JPEG.hex(), "mime": "image/jpeg"}], "task": "echo_v1", "metadata": {"k": "v"},
        "correlation_id": "m-1", "seconds": 120.0,
    }  # fmt: skip


def test_octet_stream(api: Any) -> None:
    response = api.client.post(
        "/v1/infer",
        params={"service": "echo", "task": "echo_v1", "metadata": '{"k": "v"}'},
        content=PNG,
        headers={"Content-Type": "application/octet-stream", "X-Correlation-Id": "o-1"},
    )
    heard = said(response)
    assert heard["items"] == [{"hex": PNG.hex(), "mime": "image/png"}]
    assert (heard["task"], heard["metadata"], heard["correlation_id"]) == ("echo_v1", {"k": "v"}, "o-1")


def test_an_image_as_its_own_type(api: Any) -> None:
    response = api.client.post("/v1/infer?service=echo", content=JPEG, headers={"Content-Type": "image/jpeg"})
    assert said(response)["items"][0]["mime"] == "image/jpeg"


@pytest.mark.parametrize("kind", ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"])
def test_messagepack_map(api: Any, kind: str) -> None:
    body = ormsgpack.packb({"service": "echo", "payload": [JPEG, PNG], "metadata": {"k": "v"}})
    heard = said(api.client.post("/v1/infer", content=body, headers={"Content-Type": kind}))
    assert [item["mime"] for item in heard["items"]] == ["image/jpeg", "image/png"]


# --- batches


def test_batch_of_parts(api: Any) -> None:
    files = [("payload", ("a", JPEG)), ("payload", ("b", PNG)), ("payload", ("c", b"text"))]
    heard = said(api.client.post("/v1/infer", data={"service": "echo"}, files=files))
    assert [item["mime"] for item in heard["items"]] == ["image/jpeg", "image/png", "text/plain"]


def test_batch_in_json(api: Any) -> None:
    heard = said(api.infer(service="echo", payload=[b64(JPEG), [104, 105], None]))
    assert [item["hex"] for item in heard["items"]] == [JPEG.hex(), b"hi".hex(), ""]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps(["aGk=", "eW8="]).encode()),
        ("application/msgpack", ormsgpack.packb([b"hi", b"yo"])),
    ],
)
def test_batch_as_the_whole_body(api: Any, kind: str, body: bytes) -> None:
    heard = said(api.client.post("/v1/infer?service=echo", content=body, headers={"Content-Type": kind}))
    assert [item["hex"] for item in heard["items"]] == [b"hi".hex(), b"yo".hex()]


# --- what the payload is


@pytest.mark.parametrize(
    ("payload", "mime"),
    [
        (JPEG, "image/jpeg"),
        (PNG, "image/png"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(20), "image/webp"),
        (b"a photo of a cat", "text/plain"),
        ("一隻貓的照片".encode(), "text/plain"),
        (b"# Title\n- a", "text/plain"),
        (b"123", "text/plain"),
        (b"<b>x</b>", "text/plain"),
        (b"hello, world\nfoo, bar\n", "text/plain"),
        (b"a\tb\nc\td\n", "text/plain"),
        (b"[1,2,3]", "text/plain"),
        (b'{"a":1}', "text/plain"),
        (b"BM is where I live", "text/plain"),
        (b"%PDF-1.7 is how a PDF begins", "text/plain"),
        (b"#!/usr/bin/python", "text/plain"),
        (b"", "text/plain"),
        (b"caf\xe9", "application/octet-stream"),
    ],
)
def test_media_type_is_found_in_the_bytes(api: Any, payload: bytes, mime: str) -> None:
    assert said(api.infer(service="echo", payload=b64(payload)))["items"][0]["mime"] == mime


def test_declared_media_type_wins(api: Any) -> None:
    heard = said(api.infer(service="echo", payload=b64(PNG), payload_mime="application/x-tensor; a=b"))
    assert heard["items"][0]["mime"] == "application/x-tensor"


# --- bodies of later versions


def test_later_body_is_routed_by_its_task_and_text_is_raw(api: Any) -> None:
    heard = said(api.infer(task="echo_v1", payload_mime="text/plain", payload="héllo, not base64", meta={"k": "v"}))
    assert bytes.fromhex(heard["items"][0]["hex"]).decode() == "héllo, not base64"
    assert heard["metadata"] == {"k": "v"}


def test_later_body_is_routed_by_its_meta(api: Any) -> None:
    heard = said(api.infer(payload_mime="image/png", payload=b64(PNG), meta={"service": "echo", "k": "v"}))
    assert heard["items"] == [{"hex": PNG.hex(), "mime": "image/png"}]
    assert heard["metadata"] == {"k": "v"}


def test_later_body_as_form_and_as_bytes(api: Any) -> None:
    form = {"task": "echo_v1", "payload_mime": "image/png", "meta": '{"k": "v"}'}
    assert said(api.client.post("/v1/infer", data=form, files={"payload": PNG}))["metadata"] == {"k": "v"}
    headers = {"Content-Type": "application/octet-stream"}
    assert said(api.client.post("/v1/infer", params=form, content=b"x", headers=headers))["items"] == [
        {"hex": b"x".hex(), "mime": "image/png"}
    ]


def test_with_a_service_text_is_base64_as_ever(api: Any) -> None:
    assert first(api.infer(service="echo", payload_mime="text/plain", payload="aGk=")) == b"hi"


# --- the answer


def test_answer_has_the_original_keys(api: Any) -> None:
    response = api.infer(service="echo", payload="aGk=", correlation_id="c-1")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-correlation-id"] == "c-1"
    data = response.json()["data"]
    assert {key: data[key] for key in data if key != "result"} == {
        "correlation_id": "c-1", "is_final": True, "meta": {"n": "1"}, "seq": 0, "total": 1, "offset": 0,
        "result_mime": "application/json;schema=echo_v1", "result_schema": "echo_v1",
    }  # fmt: skip


def test_correlation_id_is_made_if_missing(api: Any) -> None:
    response = api.infer(service="echo")
    assert response.json()["data"]["correlation_id"] == response.headers["x-correlation-id"] != ""


def test_correlation_id_from_the_header(api: Any) -> None:
    response = api.client.post("/v1/infer", json={"service": "echo"}, headers={"X-Correlation-Id": "h-1"})
    assert response.json()["data"]["correlation_id"] == "h-1"


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/infer/"])
def test_errors_have_the_correlation_id_too(api: Any, path: str) -> None:
    unknown = {"service": "palmistry", "correlation_id": "c-1"}
    assert api.client.post(path, json=unknown).headers["x-correlation-id"] == "c-1"
    unread = api.client.post(path, content=b"{", headers={"X-Correlation-Id": "h-1"})
    assert (unread.status_code, unread.headers["x-correlation-id"]) == (400, "h-1")
    nameless = api.client.post(path, json={"service": "palmistry"})
    assert nameless.headers["x-correlation-id"] == nameless.headers["x-request-id"]


@pytest.mark.parametrize("identity", ["ünï-1", "a\r\nSet-Cookie: b=c", "\x00", "%41", "猫"])
def test_odd_correlation_ids_stay_in_one_header(api: Any, identity: str) -> None:
    from urllib.parse import unquote

    response = api.infer(service="echo", correlation_id=identity)
    assert response.json()["data"]["correlation_id"] == identity
    assert unquote(response.headers["x-correlation-id"]) == identity
    assert "set-cookie" not in response.headers


def test_decoded_beside_the_bytes(api: Any) -> None:
    data = api.client.post("/v1/infer?decode=1", json={"service": "echo"}).json()["data"]
    assert data["result_json"] == json.loads(base64.b64decode(data["result"]))


@pytest.mark.parametrize(
    ("accept", "raw"),
    [
        ("application/octet-stream", True),
        ("application/json;schema=echo_v1", True),
        ("application/json; schema=echo_v1", True),
        ("application/json", False),
        ("*/*", False),
        ("text/html", False),
        ("application/octet-stream;q=0.1, application/json", False),
        ("application/octet-stream;q=0", False),
        ("", False),
    ],
)
def test_bare_bytes_for_those_who_accept_them(api: Any, accept: str, raw: bool) -> None:
    response = api.client.post("/v1/infer", json={"service": "echo"}, headers={"Accept": accept})
    assert ("success" in response.json()) is not raw
    if raw:
        assert response.headers["content-type"] == "application/json;schema=echo_v1"
        assert json.loads(response.headers["x-result-meta"]) == {"n": "1"}
        assert response.headers["x-result-schema"] == "echo_v1"


def test_early_looks_do_not_reach_a_sync_answer(api: Any) -> None:
    data = api.infer(service="stepper", metadata={"steps": "2", "ms": "1"}).json()["data"]
    assert base64.b64decode(data["result"]) == b"done"


def test_pieces_are_put_together(api: Any) -> None:
    pieces = [["ab", 0, 3, 0, False], ["cd", 1, 3, 2, False], ["e", 2, 3, 4, True]]
    data = api.infer(service="pieces", metadata={"pieces": json.dumps(pieces)}).json()["data"]
    assert (base64.b64decode(data["result"]), data["total"], data["meta"]) == (b"abcde", 1, {"seq": "2"})


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([["a", 0, 3, 0, False], ["b", 1, 3, 1, True]], id="missing"),
        pytest.param([["a", 0, 2, 0, False], ["b", 0, 2, 1, True]], id="twice"),
        pytest.param([["a", 0, 2, 0, False], ["b", 1, 3, 1, True]], id="other total"),
        pytest.param([["ab", 0, 2, 0, False], ["b", 1, 2, 1, True]], id="overlap"),
        pytest.param([["a", 0, 2, 0, False], ["b", 1, 2, 5, True]], id="gap"),
    ],
)
def test_pieces_that_do_not_fit(api: Any, pieces: list[Any]) -> None:
    response = api.infer(service="pieces", metadata={"pieces": json.dumps(pieces)})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "node_failed")


# --- errors

ERRORS = [
    ({"service": "nope"}, 404, "not_found", "no service is called 'nope'; there are: echo"),
    ({"service": "nope_stream"}, 404, "not_found", "no service is called 'nope'"),
    ({"service": ""}, 422, "invalid_field", "service: expected the name of a service; there are: echo"),
    ({}, 422, "invalid_field", "service: expected"),
    ({"service": "echo", "task": "zzz"}, 404, "not_found", "echo has no task called 'zzz'; there are: echo_task"),
    ({"task": "zzz", "payload_mime": "image/png"}, 404, "not_found", "no service has a task called 'zzz'"),
    ({"service": 7}, 422, "invalid_field", "service: expected a string, got a number"),
    ({"service": "echo", "task": []}, 422, "invalid_field", "task: expected a string, got a list"),
    ({"service": "echo", "correlation_id": {}}, 422, "invalid_field", "correlation_id: expected a string"),
    ({"service": "echo", "correlation_id": "x" * 257}, 422, "invalid_field", "correlation_id: expected at most 256"),
    ({"service": "echo", "payload": "%%%"}, 422, "invalid_field", "payload: base64 text holds the character '%'"),
    ({"service": "echo", "payload": "aGkxa"}, 422, "invalid_field", "payload: base64 text of 5 characters"),
    ({"service": "echo", "payload": 5}, 422, "invalid_field", "payload: expected base64 text"),
    ({"service": "echo", "payload": {"a": 1}}, 422, "invalid_field", "payload: expected base64 text"),
    ({"service": "echo", "payload": [300]}, 422, "invalid_field", "payload: expected numbers from 0 to 255"),
    ({"service": "echo", "payload": [1, "aGk="]}, 422, "invalid_field", "payload: expected base64 text"),
    ({"service": "echo", "payload": ["aGk=", "%"]}, 422, "invalid_field", "payload[1]: base64"),
    ({"service": "echo", "metadata": {"k": 1}}, 422, "invalid_field", "metadata.k: expected a string, got a number"),
    ({"service": "echo", "metadata": {"k": None}}, 422, "invalid_field", "metadata.k: expected a string, got null"),
    ({"service": "echo", "metadata": "x"}, 422, "invalid_field", "metadata: expected a map of strings, got a string"),
    ({"service": "echo", "payload_mime": "nonsense"}, 422, "invalid_field", "payload_mime: expected a media type"),
    ({"service": "echo", "metadata": {"timeout_ms": "soon"}}, 422, "invalid_field", "metadata.timeout_ms: expected"),
    ({"service": "echo", "metadata": {"timeout_ms": "-1"}}, 422, "invalid_field", "metadata.timeout_ms: expected"),
    ({"service": "failing", "metadata": {"error": "ImageError"}}, 422, "image_invalid", "failed as asked"),
    ({"service": "failing", "metadata": {"error": "Unavailable"}}, 503, "unavailable", "failed as asked"),
    ({"service": "failing", "metadata": {"error": "bug"}}, 500, "internal", "the server failed"),
    ({"service": "failing", "metadata": {"error": "none"}}, 500, "internal", "without a final message"),
]


@pytest.mark.parametrize(("fields", "status", "code", "words"), ERRORS)
@pytest.mark.parametrize("suffix", ["", "_stream"])
def test_errors(api: Any, fields: dict[str, Any], status: int, code: str, words: str, suffix: str) -> None:
    if suffix and isinstance(fields.get("service"), str) and fields["service"]:
        fields = {**fields, "service": fields["service"].removesuffix(suffix) + suffix}
    response = api.infer(**fields)
    body = response.json()
    assert (response.status_code, body["error"]["code"]) == (status, code)
    assert words in body["message"] == body["error"]["message"]
    assert body["success"] is False
    assert body["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", "application/json", 400, "not valid JSON"),
        (b"{", "application/json", 400, "not valid JSON"),
        (b"\xff", "application/json", 400, "not valid JSON"),
        (b"3", "application/json", 400, "the body must be an object"),
        (b"[" * 100_000, "application/json", 400, "nested more than 64 levels"),
        (b'{"service": "\\ud800"}', "application/json", 400, ""),
        (b"\xc1", "application/msgpack", 400, "not valid MessagePack"),
        (b"\x81\x01\x02", "application/msgpack", 400, "string keys"),
        (b"service=echo", "application/x-www-form-urlencoded", 415, "the body is no JSON, which this route reads"),
        (b"service=echo", "text/plain", 415, "this route reads"),
        (b"x", "multipart/form-data", 400, "the form cannot be parsed"),
        (b"x", "multipart/form-data; boundary=b", 400, "the form cannot be parsed"),
    ],
)
def test_bodies_that_do_not_parse(api: Any, body: bytes, kind: str, status: int, words: str) -> None:
    response = api.client.post("/v1/infer?service=echo", content=body, headers={"Content-Type": kind})
    assert response.status_code == status
    assert words in response.json()["message"]


def test_no_content_type_is_json(api: Any) -> None:
    assert api.client.post("/v1/infer", content=b'{"service": "echo"}').status_code == 200


def test_form_without_payload(api: Any) -> None:
    response = api.client.post("/v1/infer", data={"service": "echo"}, files={"other": b"x"})
    assert (response.status_code, response.json()["message"]) == (
        422,
        "payload: expected at least one file part of this name",
    )


@pytest.mark.parametrize("metadata", ["{", "[]", '{"a": 1}', "3", "null"])
def test_malformed_metadata_is_told(api: Any, metadata: str) -> None:
    fields = {"service": "echo", "metadata": metadata}
    form = api.client.post("/v1/infer", data=fields, files={"payload": b"x"})
    headers = {"Content-Type": "application/octet-stream"}
    raw = api.client.post("/v1/infer", params=fields, content=b"x", headers=headers)
    for response in (form, raw):
        assert response.status_code == 422
        assert response.json()["message"].startswith("metadata")


def test_wrong_method_and_path(api: Any) -> None:
    wrong = api.client.get("/v1/infer")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert api.client.post("/v1/infer/", json={"service": "echo"}).status_code == 200
    assert api.client.get("/v1/nothing").status_code == 404
    assert api.client.options("/v1/infer").status_code == 405
