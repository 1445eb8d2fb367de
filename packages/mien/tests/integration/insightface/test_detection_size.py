"""`detection_size` says how closely to look, on every route that finds faces; it never changes a face that is found."""

import base64
import json
from collections.abc import Callable
from typing import Any

import cv2
import httpx2
import numpy as np
import pytest

from mien.vision.detectors.scales import auto_scale
from testing.crowds import Crowd, Portrait, crowd, with_large_face

Extract = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def group(photos: dict[str, bytes]) -> bytes:
    """A PNG of 2400 × 1600 pixels: forty people, 24 pixels wide, and one in front of them."""
    image = np.asarray(cv2.imdecode(np.frombuffer(photos["person_b_1"], np.uint8), cv2.IMREAD_COLOR), np.uint8)
    person = Portrait(image, np.array([217, 156, 503, 540], np.float32))
    made: Crowd = with_large_face([person], crowd([person], 2400, 1600, 40, (24, 24)), 0.3)
    return bytes(cv2.imencode(".png", made.image)[1])


def found(answer: dict[str, Any]) -> list[dict[str, Any]]:
    faces: list[dict[str, Any]] = answer["data"][0]["faces"]
    return faces


def test_the_default_is_auto_and_finds_everybody(extract: Extract, group: bytes) -> None:
    auto = found(extract(group, extract_embedding=False))
    assert len(auto) > 25
    assert auto == found(extract(group, extract_embedding=False, detection_size="auto"))
    scale = auto_scale(1600, 2400)
    assert sorted({face["scale"] for face in auto}) == pytest.approx([scale / 4, scale])


def test_a_number_is_the_longest_side_and_full_is_every_pixel(extract: Extract, group: bytes) -> None:
    auto, small, full = (
        found(extract(group, extract_embedding=False, detection_size=size)) for size in ("auto", 480, "full")
    )
    assert [face["scale"] for face in small] == [pytest.approx(0.2)]
    assert len(full) >= len(auto)
    assert max(face["scale"] for face in full) == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"limit_faces": 3},
        {"min_face_size": 100},
        {"threshold": 0.85},
        {"return_landmarks": True, "return_face_data": True},
        {"detect_masks": True},
    ],
)
@pytest.mark.full
def test_a_face_is_the_same_whatever_else_is_asked_for(extract: Extract, group: bytes, asked: dict[str, Any]) -> None:
    every = {tuple(face["bbox"]): face for face in found(extract(group, threshold=0.6))}
    some = found(extract(group, **{"threshold": 0.6, **asked}))
    assert some
    for face in some:
        same = every[tuple(face["bbox"])]
        assert (face["prob"], face["scale"]) == (same["prob"], same["scale"])
        np.testing.assert_allclose(face["vec"], same["vec"], atol=1e-5)
    bare = found(extract(group, **{"threshold": 0.6, **asked, "extract_embedding": False}))
    assert [face["bbox"] for face in bare] == [face["bbox"] for face in some]


def test_forms_take_it_too(client: httpx2.Client, group: bytes) -> None:
    fields = {"detection_size": "480", "extract_embedding": "false"}
    answer = client.post("/multipart/extract", data=fields, files={"file": group}).json()
    assert [face["scale"] for face in found(answer)] == [pytest.approx(0.2)]


def test_drawing_and_comparing_take_it_too(client: httpx2.Client, group: bytes, photo: bytes) -> None:
    files = {"file": group}
    few, many = (
        client.post("/multipart/draw_detections", data={"detection_size": size}, files=files).content
        for size in ("480", "auto")
    )
    assert few[:2] == many[:2] == b"\xff\xd8"
    assert few != many

    data = [base64.b64encode(image).decode() for image in (group, photo)]
    drawn = client.post("/draw_detections", json={"images": {"data": data[:1]}, "detection_size": 480})
    assert drawn.content == few
    compared = client.post("/compare", json={"images": {"data": data}, "detection_size": 480}).json()
    assert [len(faces) for faces in compared["faces"]] == [1, 1]


@pytest.mark.parametrize("wrong", ["huge", "", 63, 4097, 640.5, True, [640], -1, "-1", "640px"])
def test_anything_else_is_refused_and_named(client: httpx2.Client, wrong: Any) -> None:
    response = client.post("/extract", json={"images": {"data": []}, "detection_size": wrong})
    assert response.status_code == 422
    text = json.dumps(response.json())
    assert "detection_size" in text
    assert "expected `auto`, `full` or a number of pixels from 64 to 4096" in text


@pytest.mark.parametrize("right", [64, 4096, "640", 640.0, "auto", "full", None])
def test_numbers_may_be_texts_and_null_means_the_default(client: httpx2.Client, right: Any) -> None:
    response = client.post("/extract", json={"images": {"data": []}, "detection_size": right})
    assert response.status_code == 200


def test_info_keeps_its_shape(client: httpx2.Client) -> None:
    assert client.get("/info").json()["models"]["max_size"] == [768, 768]
