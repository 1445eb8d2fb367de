"""Damaged images and malformed bodies through HTTP: never a 500, no crash, no hang."""

import base64
import json
import random
import struct
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx2
import msgspec
import ormsgpack
import pytest
from PIL import Image

from packages.mien.tests.mutations import damaged

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]
MSGPACK = {"Content-Type": "application/msgpack"}
JSON = {"Content-Type": "application/json"}
SECONDS = 10.0  # that no single request here may take


@pytest.fixture(scope="module")
def encoded(photo: bytes) -> dict[str, bytes]:
    """A small photo in every format that can be written here."""
    image = Image.open(BytesIO(photo)).convert("RGB").resize((96, 96))
    found = {}
    for name in FORMATS:
        if name == "HEIF":
            heif = pytest.importorskip("pillow_heif")
            out = BytesIO()
            heif.from_pillow(image).save(out)
        else:
            out = BytesIO()
            image.save(out, name, **({"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"} if name in ("JPEG", "WEBP") else {}))
        found[name] = out.getvalue()
    return found


def ask(client: httpx2.Client, body: bytes, headers: dict[str, str], route: str = "/extract") -> httpx2.Response:
    started = time.monotonic()
    response = client.post(route, content=body, headers=headers)
    took = time.monotonic() - started
    shown = body[:200]
    assert response.status_code < 500, f"{response.status_code} for {shown!r}: {response.text[:500]}"
    assert took < SECONDS, f"{took:.1f} s for {shown!r}"
    return response


def fuzz_images(client: httpx2.Client, data: bytes, good: bytes, *, rounds: int, seed: int) -> None:
    """Damaged images between good ones, which must not notice."""
    chance = random.Random(seed)
    for _ in range(rounds):
        images = [damaged(data, chance) for _ in range(15)] + [good]
        body = ormsgpack.packb({"images": {"data": images}, "extract_embedding": False})
        answer = ask(client, body, MSGPACK).json()
        assert len(answer["data"]) == 16
        assert answer["data"][-1]["status"] == "success"
        for image in answer["data"]:
            assert image["status"] == "success" or len(image["error"]) > 5
            assert "the server failed on this image" not in image.get("error", ""), base64.b64encode(
                images[answer["data"].index(image)]
            )


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_images(client: httpx2.Client, server: Any, encoded: dict[str, bytes], photo: bytes, name: str) -> None:
    fuzz_images(client, encoded[name], photo, rounds=10, seed=FORMATS.index(name))
    assert server.process.poll() is None


@pytest.mark.soak
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_images_for_long(
    client: httpx2.Client, server: Any, encoded: dict[str, bytes], photo: bytes, name: str
) -> None:
    before = server.rss_mb()
    fuzz_images(client, encoded[name], photo, rounds=120, seed=1000 + FORMATS.index(name))
    assert server.process.poll() is None
    assert server.rss_mb() - before < 250


@pytest.mark.parametrize("name", FORMATS)
def test_every_cut_of_an_image_is_an_error_of_that_image(
    client: httpx2.Client, encoded: dict[str, bytes], name: str
) -> None:
    data = encoded[name]
    cuts = sorted({len(data) * n // 40 for n in range(40)} | set(range(min(40, len(data)))))
    body = ormsgpack.packb({"images": {"data": [data[:cut] for cut in cuts]}, "extract_embedding": False})
    for image in ask(client, body, MSGPACK).json()["data"]:
        assert image["status"] in ("success", "error")
        assert "the server failed" not in image.get("error", "")


# --- MessagePack


def nested_arrays(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def with_images(field: bytes) -> bytes:
    """{"images": <field>} in MessagePack."""
    return b"\x81\xa6images" + field


MALFORMED_MSGPACK: dict[str, bytes] = {
    "nothing": b"",
    "never used": b"\xc1",
    "not a map": b"\x93\x01\x02\x03",
    "nil": b"\xc0",
    "an int": b"\x2a",
    "deep arrays": nested_arrays(100_000),
    "deep maps": b"\x81\xa1a" * 50_000 + b"\xc0",
    "deep arrays in images": with_images(b"\x81\xa4data" + nested_arrays(100_000)),
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "an array of 4 billion": with_images(b"\x81\xa4data\xdd\xff\xff\xff\xff"),
    "bytes of 4 GB": with_images(b"\x81\xa4data\x91\xc6\xff\xff\xff\xff\0\0"),
    "a string of 4 GB": with_images(b"\x81\xa4urls\x91\xdb\xff\xff\xff\xffab"),
    "an ext of 4 GB": with_images(b"\xc9\xff\xff\xff\xff\x01"),
    "ext": with_images(b"\xd4\x05\x00"),
    "ext in data": with_images(b"\x81\xa4data\x91\xd5\x07ab"),
    "a time": with_images(b"\xd6\xff\0\0\0\0"),
    "a senseless time": with_images(b"\xc7\x0c\xff" + b"\xff" * 12),
    "a time as threshold": b"\x82\xa6images\x80\xa9threshold\xd6\xff\0\0\0\0",
    "an ext as a key": b"\x81\xd4\x05\x00\xc0",
    "an array as a key": b"\x82\x92\x01\x02\xc0\xa6images\x80",
    "a map as a key": b"\x82\x81\x01\x02\xc0\xa6images\x80",
    "nil as a key": b"\x82\xc0\xc0\xa6images\x80",
    "a float as a key": b"\x82\xcb\x7f\xf8\0\0\0\0\0\0\xc0\xa6images\x80",
    "bytes as keys": b"\x81\xc4\x06images\x80",
    "bytes as header names": b"\x82\xa6images\x80\xafimg_req_headers\x81\xc4\x01\xff\x01",
    "numbers as header names": b"\x82\xa6images\x80\xafimg_req_headers\x81\xcf" + b"\xff" * 8 + b"\xc0",
    "the same key twice": b"\x82\xa6images\x80\xa6images\x01",
    "invalid UTF-8": with_images(b"\x81\xa4urls\x91\xa2\xff\xfe"),
    "invalid UTF-8 in a key": b"\x82\xa2\xff\xfe\xc0\xa6images\x80",
    "bytes in urls": with_images(b"\x81\xa4urls\x91\xc4\x02\xff\xfe"),
    "data after the end": with_images(b"\x80") + b"\x01\x02",
    "cut off": with_images(b"\x81\xa4da"),
    "NaN as threshold": b"\x82\xa6images\x80\xa9threshold\xcb\x7f\xf8\0\0\0\0\0\0",
    "infinity as a limit": b"\x82\xa6images\x80\xablimit_faces\xcb\x7f\xf0\0\0\0\0\0\0",
    "2^64-1 as a limit": b"\x82\xa6images\x80\xablimit_faces\xcf" + b"\xff" * 8,
    "bytes as a threshold": b"\x82\xa6images\x80\xa9threshold\xc4\x03\xff\xfe\xfd",
    "bytes as a flag": b"\x82\xa6images\x80\xa7msgpack\xc4\x01\xff",
}


@pytest.mark.parametrize("what", MALFORMED_MSGPACK)
@pytest.mark.parametrize("route", ["/extract", "/compare", "/draw_detections"])
def test_malformed_messagepack(client: httpx2.Client, what: str, route: str) -> None:
    response = ask(client, MALFORMED_MSGPACK[what], MSGPACK, route)
    if response.status_code != 200:
        assert response.json()["error"]["message"]


# --- JSON

ODD_URLS = [
    "http://", "http://[", "http://[::1", "http://a b/", "http://\u0000/", "https://:99999/", "//x", "http://x:y@/",
    "http://127.0.0.1:99999/", "http://" + "a" * 5000 + "/", "HTTP://127.0.0.1:1/", "http://☃/", "\n", "a" * 5000,
]  # fmt: skip
MALFORMED_JSON: dict[str, bytes] = {
    "nothing": b"",
    "deep arrays": b"[" * 100_000,
    "deep arrays in images": b'{"images": {"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "deep objects": b'{"a":' * 100_000,
    "NaN": b'{"images": {}, "threshold": NaN}',
    "Infinity": b'{"images": {}, "threshold": Infinity}',
    "1e999": b'{"images": {}, "threshold": 1e999}',
    "1e999 as a limit": b'{"images": {}, "limit_faces": 1e999}',
    "a number of 5000 digits": b'{"images": {}, "limit_faces": ' + b"9" * 5000 + b"}",
    "a number of 5000 digits as threshold": b'{"images": {}, "threshold": ' + b"9" * 5000 + b"}",
    "a number of 5000 digits as a string": b'{"images": {}, "limit_faces": "' + b"9" * 5000 + b'"}',
    "-0.0": b'{"images": {}, "threshold": -0.0}',
    "lone surrogate": rb'{"images": {"urls": ["\ud800"]}}',
    "lone surrogate in data": rb'{"images": {"data": ["\udfff"]}}',
    "lone surrogate as a header": rb'{"images": {"urls": ["http://127.0.0.1:1/"]}, "img_req_headers": {"\ud800": "x"}}',
    "invalid UTF-8": b'{"images": {"urls": ["\xff\xfe"]}}',
    "UTF-16": '{"images": {}}'.encode("utf-16"),
    "a BOM": b'\xef\xbb\xbf{"images": {}}',
    "NUL": b'{"images": {"urls": ["\\u0000"]}}',
    "the same key twice": b'{"images": {}, "images": 1}',
    "a comment": b'{"images": {}} // x',
    "control characters": b'{"images": {"urls": ["\x01"]}}',
    "a million keys": b"{" + b",".join(b'"k%d":1' % i for i in range(100_000)) + b',"images":{}}',
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED_JSON)
@pytest.mark.parametrize("route", ["/extract", "/compare", "/draw_detections"])
def test_malformed_json(client: httpx2.Client, what: str, route: str) -> None:
    response = ask(client, MALFORMED_JSON[what], JSON, route)
    if response.status_code != 200:
        assert response.json()["error"]["message"]


def test_odd_urls(client: httpx2.Client) -> None:
    answer = ask(client, json.dumps({"images": {"urls": ODD_URLS}}).encode(), JSON).json()
    assert [image["status"] for image in answer["data"]] == ["error"] * len(ODD_URLS)
    assert all("the server failed" not in image["error"] for image in answer["data"])


# --- wrong types everywhere

FIELDS = [
    "images", "threshold", "embed_only", "return_face_data", "return_landmarks", "extract_embedding", "extract_ga",
    "detect_masks", "limit_faces", "min_face_size", "verbose_timings", "msgpack", "img_req_headers", "draw_landmarks",
    "draw_scores", "draw_sizes",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 - 1, 0.5, -0.0, 1e308, "", "x", "true", "0.5", "\u0000", "☃", [],
    [[]], [None], [1], ["x"], {}, {"a": 1}, {"data": 1}, {"data": [1]}, {"data": [[]]}, {"data": {"a": 1}},
    {"urls": [None]}, {"urls": {"a": "b"}}, {"data": ["", "QQ=="]}, {"": ""}, {"X": None}, {"X": ["a"]},
]  # fmt: skip


@pytest.mark.parametrize("route", ["/extract", "/compare", "/draw_detections"])
@pytest.mark.parametrize("field", FIELDS)
def test_every_value_in_every_field(client: httpx2.Client, route: str, field: str) -> None:
    for value in VALUES:
        body = {"images": {"data": []}, field: value}
        ask(client, json.dumps(body).encode(), JSON, route)
        ask(client, ormsgpack.packb(body), MSGPACK, route)


def random_bodies(seed: int, count: int) -> Iterator[bytes]:
    """Valid MessagePack requests with bytes changed here and there."""
    chance = random.Random(seed)
    base = msgspec.msgpack.encode(
        {
            "images": {"data": [b"\xff\xd8\xff\xe0abc", "QQ=="], "urls": ["people/x.jpg"]},
            "threshold": 0.5,
            "limit_faces": 3,
            "img_req_headers": {"a": "b"},
            "msgpack": True,
        }
    )
    for _ in range(count):
        yield damaged(base, chance)


def test_random_messagepack(client: httpx2.Client) -> None:
    for body in random_bodies(7, 600):
        ask(client, body, MSGPACK)


@pytest.mark.soak
def test_random_messagepack_for_long(client: httpx2.Client) -> None:
    for body in random_bodies(8, 10_000):
        ask(client, body, MSGPACK)


def test_random_forms(client: httpx2.Client, photo: bytes) -> None:
    chance = random.Random(9)
    base = (
        b'--b\r\nContent-Disposition: form-data; name="threshold"\r\n\r\n0.5\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + photo[:200]
        + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for _ in range(200):
        for route in ("/multipart/extract", "/multipart/compare", "/multipart/draw_detections"):
            ask(client, damaged(base, chance), headers, route)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 500,
        "multipart/form-data; boundary=\xff",
        "multipart/form-data; charset=utf-7; boundary=b",
        "multipart/form-data; charset=nonsense; boundary=b",
        "; ; ;",
        "application/json;;;",
    ],
)
def test_odd_content_types(client: httpx2.Client, content_type: str) -> None:
    for route in ("/extract", "/multipart/extract"):
        body = b"--b\r\nContent-Disposition: form-data; name=\"\xff\"; filename*=utf-9''x\r\n\r\nx\r\n--b--\r\n"
        response = client.post(route, content=body, headers=[(b"Content-Type", content_type.encode("latin-1"))])
        assert response.status_code in (400, 415, 422), response.text


def test_an_image_that_says_it_is_huge(client: httpx2.Client) -> None:
    """Headers alone, of every format that puts its size there."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    images = [
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + b"\0\0\0\0",
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0",
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHH", 40, 2**31 - 1, 2**31 - 1, 1, 24)
        + bytes(24),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9",
        b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
    ]
    body = ormsgpack.packb({"images": {"data": images}})
    answer = ask(client, body, MSGPACK).json()
    assert [image["status"] for image in answer["data"]] == ["error"] * len(images)
