"""Whatever stands in a field of a request is accepted or refused, in both formats: nothing else is ever raised.

The same through a running server is in `acceptance/full/test_fuzz.py`.
"""

import json
from typing import Any

import ormsgpack
import pytest

from mien.errors import RequestError
from mien.http.insightface.request import parse
from mien.http.insightface.schema import CompareRequest, DrawRequest, ExtractRequest
from mien.http.media import JSON, MSGPACK
from mien.settings import Limits

MODELS = (ExtractRequest, CompareRequest, DrawRequest)
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 - 1, 0.5, -0.0, 1e308, "", "x", "true", "0.5", "\u0000", "☃", [],
    [[]], [None], [1], ["x"], {}, {"a": 1}, {"data": 1}, {"data": [1]}, {"data": [[]]}, {"data": {"a": 1}},
    {"urls": [None]}, {"urls": {"a": "b"}}, {"data": ["", "QQ=="]}, {"": ""}, {"X": None}, {"X": ["a"]},
]  # fmt: skip
MALFORMED: list[tuple[str, bytes]] = [
    *((kind, b"") for kind in (JSON, MSGPACK)),
    (JSON, b"[" * 100_000), (JSON, b'{"a":' * 100_000), (JSON, b'{"images": {}, "threshold": NaN}'),
    (JSON, b'{"images": {}, "limit_faces": ' + b"9" * 5000 + b"}"), (JSON, rb'{"images": {"urls": ["\ud800"]}}'),
    (JSON, b'{"images": {"urls": ["\xff\xfe"]}}'), (JSON, '{"images": {}}'.encode("utf-16")), (JSON, b'{"images": {'),
    (MSGPACK, b"\xc1"), (MSGPACK, b"\x91" * 100_000 + b"\xc0"), (MSGPACK, b"\xdf\xff\xff\xff\xff"),
    (MSGPACK, b"\xdb\xff\xff\xff\xffx"), (MSGPACK, b"\x81\xa6images\xc7\x01\x05x"), (MSGPACK, b"\x80\x80"),
]  # fmt: skip


def outcome(body: bytes, kind: str, model: Any) -> str:
    try:
        parse(body, kind, model, Limits())
    except RequestError:
        return "refused"
    return "accepted"


@pytest.mark.parametrize("model", MODELS)
def test_any_value_in_any_field(model: Any) -> None:
    found = {
        outcome(packed, kind, model)
        for field in model.model_fields
        for value in VALUES
        for body in [{"images": {"data": []}, field: value}]
        for kind, packed in ((JSON, json.dumps(body).encode()), (MSGPACK, ormsgpack.packb(body)))
    }
    assert found == {"accepted", "refused"}


@pytest.mark.parametrize("model", MODELS)
def test_malformed_bodies(model: Any) -> None:
    for kind, body in MALFORMED:
        assert outcome(body, kind, model) == "refused", (kind, body[:60])
