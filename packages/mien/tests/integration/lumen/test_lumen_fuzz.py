"""Any body gets an answer that says what is wrong with it, never a 500."""

import base64
import json
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
names = st.sampled_from(["service", "task", "payload", "metadata", "meta", "payload_mime", "correlation_id", "SERVICE"])
services = st.sampled_from(["echo", "echo_stream", " Echo_Stream ", "_stream", "nope", ""])
fields = st.dictionaries(names | st.text(max_size=5), values | services, max_size=6)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)


def check(response: Any) -> None:
    """A success, or an error in the one form; a stream ends in exactly one final event."""
    assert response.status_code < 500, response.text
    if response.headers["content-type"] == "text/event-stream":
        events = [json.loads(part) for part in response.text.split("\n\n")[:-1]]
        assert [event["is_final"] for event in events] == [False] * (len(events) - 1) + [True]
        return
    body = response.json()
    assert body["success"] is (response.status_code == 200)
    assert body["success"] or body["message"]


@FUZZ
@given(fields, st.booleans())
def test_fields(api: Any, sent: dict[str, Any], msgpack: bool) -> None:
    if msgpack:
        body, kind = ormsgpack.packb(sent), "application/msgpack"
    else:
        body, kind = json.dumps(sent).encode(), "application/json"
    check(api.client.post("/v1/infer", content=body, headers={"Content-Type": kind}))


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(["application/json", "application/msgpack", "", "a/b+json"]))
def test_bytes(api: Any, body: bytes, kind: str) -> None:
    check(api.client.post("/v1/infer?service=echo", content=body, headers={"Content-Type": kind}))


@FUZZ
@given(st.binary(max_size=300))
def test_forms(api: Any, body: bytes) -> None:
    whole = b'--b\r\nContent-Disposition: form-data; name="service"\r\n\r\necho\r\n--b\r\n' + body + b"\r\n--b--\r\n"
    check(api.client.post("/v1/infer", content=whole, headers={"Content-Type": "multipart/form-data; boundary=b"}))


@FUZZ
@given(st.text(), header_text, header_text, header_text)
def test_metadata_and_headers(api: Any, metadata: str, correlation: str, timeout: str, accept: str) -> None:
    headers = {
        "Content-Type": "application/octet-stream", "X-Correlation-Id": correlation, "X-Timeout-Ms": timeout,
        "Accept": accept,
    }  # fmt: skip
    response = api.client.post("/v1/infer", params={"service": "echo", "metadata": metadata}, headers=headers)
    if response.status_code != 200:
        check(response)


@FUZZ
@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=20), st.text(max_size=20)), st.text(max_size=60))
def test_what_is_sent_arrives(api: Any, payload: bytes, metadata: dict[str, str], identity: str) -> None:
    metadata = {key: value for key, value in metadata.items() if key != "timeout_ms"}
    sent = {
        "service": "echo", "payload": base64.b64encode(payload).decode(), "metadata": metadata,
        "correlation_id": identity,
    }  # fmt: skip
    packed = ormsgpack.packb({**sent, "payload": payload})
    for body, kind in ((json.dumps(sent), "application/json"), (packed, "application/msgpack")):
        response = api.client.post("/v1/infer?decode=1", content=body, headers={"Content-Type": kind})
        heard = response.json()["data"]["result_json"]
        assert bytes.fromhex(heard["items"][0]["hex"]) == payload
        assert heard["metadata"] == metadata
        assert heard["correlation_id"] == identity or not identity


@pytest.mark.parametrize("number", ["1e400", "-0", "123456789012345678901234567890", "1.5"])
def test_odd_numbers(api: Any, number: str) -> None:
    body = f'{{"service": "echo", "x": {number}, "payload": [{number}]}}'
    check(api.client.post("/v1/infer", content=body, headers={"Content-Type": "application/json"}))
