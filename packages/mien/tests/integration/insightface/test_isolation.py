"""One bad image never fails its neighbours."""

import base64
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import ormsgpack
import pytest
from PIL import Image

Extract = Callable[..., dict[str, Any]]


def encoded(size: tuple[int, int], format_: str = "PNG", mode: str = "RGB") -> bytes:
    out = BytesIO()
    Image.new(mode, size, 128 if mode == "L" else None).save(out, format_)
    return out.getvalue()


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda photo: b"",
    "cut off": lambda photo: photo[: len(photo) // 2],
    "cut off in its header": lambda photo: photo[:20],
    "a web page": lambda photo: b"<!DOCTYPE html><html>404</html>",
    "text": lambda photo: b"hello",
    "zeros": lambda photo: bytes(1000),
    "a PDF": lambda photo: b"%PDF-1.7 ...",
    "an SVG": lambda photo: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}
ODD: dict[str, bytes] = {
    "1x2000": encoded((1, 2000)),
    "2000x1": encoded((2000, 1), "JPEG"),
    "1x1": encoded((1, 1)),
    "gray": encoded((300, 200), mode="L"),
    "no face": encoded((640, 480), "JPEG"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("embed_only", [False, True])
def test_a_bad_image_fails_alone_with_a_clear_sentence(
    client: httpx2.Client, photo: bytes, what: str, embed_only: bool
) -> None:
    good = photo if not embed_only else encoded((112, 112))
    body = ormsgpack.packb({"images": {"data": [good, BAD[what](photo), good]}, "embed_only": embed_only})
    answer = client.post("/extract", content=body, headers={"Content-Type": "application/msgpack"}).json()
    first, bad, last = answer["data"]
    assert (first["status"], last["status"]) == ("success", "success")
    assert len(first["faces"]) == len(last["faces"]) == 1
    assert (bad["status"], bad["faces"]) == ("error", [])
    assert 10 < len(bad["error"]) < 300
    assert "Traceback" not in bad["error"]
    assert "/site-packages" not in bad["error"]
    assert "error" not in first


@pytest.mark.parametrize("text", ["!!!!", "QUJ", "====", "data:image/png,abc", "ü", "http://x/y.jpg", "QUJD\0QUJD"])
def test_bad_base64_fails_alone(extract: Extract, photo: bytes, text: str) -> None:
    answer = extract(photo, text, photo)
    assert [image["status"] for image in answer["data"]] == ["success", "error", "success"]
    assert answer["data"][1]["error"]


@pytest.mark.parametrize("what", ODD)
def test_an_odd_image_is_no_error_and_has_no_faces(extract: Extract, photo: bytes, what: str) -> None:
    answer = extract(photo, ODD[what], photo)
    assert [(image["status"], len(image["faces"])) for image in answer["data"]] == [
        ("success", 1), ("success", 0), ("success", 1),
    ]  # fmt: skip


def test_neighbours_of_bad_images_have_the_vectors_that_they_have_alone(
    extract: Extract, photos: dict[str, bytes]
) -> None:
    alone = {name: extract(data)["data"][0]["faces"][0]["vec"] for name, data in photos.items()}
    mixed: list[bytes | str] = []
    for data in photos.values():
        mixed += [data, "!", ODD["1x2000"]]
    answer = extract(*mixed)
    for index, name in enumerate(photos):
        vector = answer["data"][3 * index]["faces"][0]["vec"]
        assert np.abs(np.array(vector) - alone[name]).max() <= 1e-4


@pytest.fixture(scope="module")
def original_words(serve_module: Callable[..., Any], photo: bytes, light: dict[str, str]) -> Any:
    """A server with the words of the original one, without attributes, for images hardly larger than the photo."""
    return serve_module(status_words="ok", max_image_bytes=len(photo) + 10, **light)


@pytest.mark.full
def test_the_original_servers_words_by_setting(original_words: Any, photo: bytes) -> None:
    data = [base64.b64encode(photo).decode(), "!"]
    answer = original_words.client.post("/extract", json={"images": {"data": data}, "extract_ga": True}).json()
    assert [image["status"] for image in answer["data"]] == ["ok", "failed"]
    assert answer["data"][1]["traceback"] == answer["data"][1]["error"]
    assert (answer["data"][0]["faces"][0]["age"], answer["data"][0]["faces"][0]["gender"]) == (None, None)
    crops = original_words.client.post("/extract", json={"images": {"data": []}, "embed_only": True}).json()
    assert set(crops) == {"took", "took_ms", "data", "status"}


def test_a_large_upload_fails_alone(original_words: Any, photo: bytes) -> None:
    for route, ask in {
        "/extract": {"json": {"images": {"data": [base64.b64encode(d).decode() for d in (photo, photo + bytes(99))]}}},
        "/multipart/extract": {"files": [("a", photo), ("b", photo + bytes(99))]},
    }.items():
        answer = original_words.client.post(route, **ask)
        assert answer.status_code == 200, answer.text
        assert [image["status"] for image in answer.json()["data"]] == ["ok", "failed"]
        assert "bytes" in answer.json()["data"][1]["error"]


def test_an_image_of_too_many_pixels_is_refused_from_its_header(extract: Extract, photo: bytes) -> None:
    small = encoded((8, 8), mode="L")
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + small[24:29]
    big = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]  # says more than it has
    answer = extract(big, photo)
    assert [image["status"] for image in answer["data"]] == ["error", "success"]
    assert "60000x60000" in answer["data"][0]["error"]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_format_is_read(extract: Extract, photo: bytes, format_: str) -> None:
    out = BytesIO()
    Image.open(BytesIO(photo)).convert("RGB").save(out, format_)
    assert len(extract(out.getvalue(), extract_embedding=False)["data"][0]["faces"]) == 1
