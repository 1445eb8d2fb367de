"""Comparing two images, and drawing on one."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import ormsgpack
import pytest
from PIL import Image


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def blank() -> bytes:
    out = BytesIO()
    Image.new("RGB", (320, 240), (20, 90, 160)).save(out, "JPEG")
    return out.getvalue()


def compared(client: httpx2.Client, *images: bytes, **parameters: Any) -> httpx2.Response:
    return client.post("/compare", json={"images": {"data": [b64(p) for p in images]}, **parameters})


def test_two_photos_of_one_person_are_the_same(client: httpx2.Client, photos: dict[str, bytes]) -> None:
    answer = compared(client, photos["person_a_1"], photos["person_a_2"]).json()
    assert answer["same"] == [[True]]
    assert answer["similarity"][0][0] >= answer["threshold"]
    assert [len(faces) for faces in answer["faces"]] == [1, 1]
    assert answer["model"]


def test_two_people_are_not(client: httpx2.Client, photos: dict[str, bytes]) -> None:
    answer = compared(client, photos["person_a_1"], photos["person_b_1"]).json()
    assert answer["same"] == [[False]]


def test_every_face_is_compared_with_every_face(
    client: httpx2.Client, photos: dict[str, bytes], collage: bytes
) -> None:
    answer = compared(client, photos["person_a_1"], collage).json()
    assert np.array(answer["similarity"]).shape == (1, 6)
    vectors = [np.array([face["vec"] for face in side]) for side in answer["faces"]]
    assert np.abs(vectors[0] @ vectors[1].T - answer["similarity"]).max() < 1e-5
    assert sum(answer["same"][0]) == 2


def test_an_image_without_faces_gives_an_empty_matrix(client: httpx2.Client, photo: bytes, blank: bytes) -> None:
    assert compared(client, photo, blank).json()["similarity"] == [[]]
    assert compared(client, blank, photo).json()["similarity"] == []
    assert compared(client, blank, blank).json()["same"] == []


def test_a_comparison_comes_in_messagepack_too(client: httpx2.Client, photo: bytes) -> None:
    body = ormsgpack.packb({"images": {"data": [photo, photo]}})
    response = client.post(
        "/compare", content=body, headers={"Content-Type": "application/msgpack", "Accept": "application/x-msgpack"}
    )
    answer = ormsgpack.unpackb(response.content)
    assert answer["same"] == [[True]]
    assert answer["similarity"][0][0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_anything_but_two_images_is_refused(client: httpx2.Client, photo: bytes, count: int) -> None:
    response = compared(client, *[photo] * count)
    assert response.status_code == 422
    assert f"exactly 2 images to compare, got {count}" in response.json()["error"]["message"]


def test_a_bad_image_is_named_by_its_number(client: httpx2.Client, photo: bytes) -> None:
    response = compared(client, photo, b"nothing")
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith("image 2: ")


def test_the_caller_may_set_the_cosine_from_which_faces_are_the_same(
    client: httpx2.Client, photos: dict[str, bytes]
) -> None:
    pair = photos["person_a_1"], photos["person_a_2"]
    known = compared(client, *pair).json()
    cosine = known["similarity"][0][0]
    assert "same_threshold" not in known
    for limit, same in {cosine + 0.01: False, cosine - 0.01: True, -1: True, 1: False}.items():
        answer = compared(client, *pair, same_threshold=limit, threshold=0.5).json()
        assert answer["same"] == [[same]]
        assert (answer["threshold"], answer["same_threshold"]) == (limit, limit)
        assert set(answer) == {*known, "same_threshold"}


@pytest.mark.parametrize("value", [1.1, -1.1, "high", [], "nan"])
def test_a_cosine_that_is_none_is_refused(client: httpx2.Client, value: Any) -> None:
    response = client.post("/compare", json={"images": {"data": []}, "same_threshold": value})
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["same_threshold"])


def test_two_uploads_are_compared_as_two_images_of_a_body(client: httpx2.Client, photos: dict[str, bytes]) -> None:
    pair = [photos["person_a_1"], photos["person_b_1"]]
    form = {"same_threshold": "-1", "limit_faces": "1"}
    uploaded = client.post("/multipart/compare", files=[("a", pair[0]), ("b", pair[1])], data=form).json()
    sent = compared(client, *pair, same_threshold=-1, limit_faces=1).json()
    assert uploaded["same"] == [[True]]
    assert [{**answer, "took": None} for answer in (uploaded,)] == [{**sent, "took": None}]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_anything_but_two_uploads_is_refused(client: httpx2.Client, photo: bytes, count: int) -> None:
    files = [("file", photo)] * count or [("x", (None, "no file"))]
    response = client.post("/multipart/compare", files=files)
    assert response.status_code == 422
    assert "file" in response.json()["error"]["message"] or f"got {count}" in response.json()["error"]["message"]


def test_a_comparison_comes_in_messagepack_if_the_body_says_so(client: httpx2.Client, photo: bytes) -> None:
    response = compared(client, photo, photo, msgpack=True)
    assert ormsgpack.unpackb(response.content)["same"] == [[True]]


# --- drawing


def pixels(response: httpx2.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/jpeg"
    image = Image.open(BytesIO(response.content))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB"), np.int16)


def drawn_json(client: httpx2.Client, photo: bytes, **parameters: Any) -> httpx2.Response:
    return client.post("/draw_detections", json={"images": {"data": [b64(photo)]}, **parameters})


def drawn_messagepack(client: httpx2.Client, photo: bytes, **parameters: Any) -> httpx2.Response:
    body = ormsgpack.packb({"images": {"data": [photo]}, **parameters})
    return client.post("/draw_detections", content=body, headers={"Content-Type": "application/msgpack"})


def drawn_form(client: httpx2.Client, photo: bytes, **parameters: Any) -> httpx2.Response:
    return client.post(
        "/multipart/draw_detections", files={"file": photo}, data={k: str(v) for k, v in parameters.items()}
    )


WAYS: list[Callable[..., httpx2.Response]] = [drawn_json, drawn_messagepack, drawn_form]


@pytest.mark.parametrize("way", WAYS)
def test_a_drawing_is_the_image_with_something_on_it(
    client: httpx2.Client, photo: bytes, way: Callable[..., httpx2.Response]
) -> None:
    before = np.asarray(Image.open(BytesIO(photo)).convert("RGB"), np.int16)
    after = pixels(way(client, photo))
    assert after.shape == before.shape
    changed = np.abs(after - before).max(axis=2) > 60
    assert 0.001 < changed.mean() < 0.4


@pytest.mark.parametrize("way", WAYS)
def test_what_is_drawn_can_be_chosen(client: httpx2.Client, photo: bytes, way: Callable[..., httpx2.Response]) -> None:
    full = pixels(way(client, photo))
    for name in ("draw_landmarks", "draw_scores", "draw_sizes"):
        less = pixels(way(client, photo, **{name: False}))
        assert np.abs(full - less).max() > 60, name


def test_small_faces_are_not_drawn(client: httpx2.Client, photo: bytes) -> None:
    every, none = pixels(drawn_json(client, photo)), pixels(drawn_json(client, photo, min_face_size=5000))
    assert np.abs(every - none).max() > 60


def test_drawing_takes_urls_and_paths(client: httpx2.Client, web: str) -> None:
    for location in (f"{web}/people/person_a_1.jpg", "people/person_a_1.jpg"):
        pixels(client.post("/draw_detections", json={"images": {"urls": [location]}}))


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_drawn_on_is_refused_with_a_sentence(
    client: httpx2.Client, way: Callable[..., httpx2.Response]
) -> None:
    for data in (b"nothing", b""):
        response = way(client, data)
        assert response.status_code == 422
        assert response.json()["error"]["message"]


def test_drawing_on_no_image_is_refused(client: httpx2.Client) -> None:
    assert client.post("/draw_detections", json={"images": {"data": []}}).status_code == 422
    assert client.post("/multipart/draw_detections", files={"x": (None, "y")}).status_code == 422


def test_drawing_beyond_the_root_is_forbidden(client: httpx2.Client) -> None:
    response = client.post("/draw_detections", json={"images": {"urls": ["../x.jpg"]}})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "source_refused")
