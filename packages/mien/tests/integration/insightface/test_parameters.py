"""Every parameter of `/extract` does what the documentation says, and wrong ones are named."""

import base64
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import ormsgpack
import pytest
from PIL import Image

Extract = Callable[..., dict[str, Any]]
FACE_KEYS = {
    "num_det", "prob", "size", "bbox", "scale", "landmarks", "norm", "vec", "facedata", "gender", "age", "mask",
    "mask_probs",
}  # fmt: skip


def faces(answer: dict[str, Any], image: int = 0) -> list[dict[str, Any]]:
    assert answer["data"][image]["status"] == "success", answer["data"][image]
    found: list[dict[str, Any]] = answer["data"][image]["faces"]
    return found


def resized(image: bytes, side: int) -> bytes:
    image = Image.open(BytesIO(image)).convert("RGB").resize((side, side))
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"extract_embedding": False},
        {"return_landmarks": True},
        {"return_face_data": True},
        {"extract_ga": True},
        {"detect_masks": True},
        {"embed_only": True},
    ],
)
def test_all_documented_keys_are_always_there(extract: Extract, photo: bytes, parameters: dict[str, bool]) -> None:
    image = resized(photo, 112) if parameters.get("embed_only") else photo
    for face in faces(extract(image, **parameters)):
        assert set(face) == FACE_KEYS


def test_by_default_there_is_an_embedding_and_nothing_else(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo))
    assert len(face["vec"]) == 512
    assert face["norm"] > 0
    assert [face[key] for key in ("landmarks", "facedata", "gender", "age", "mask", "mask_probs")] == [None] * 6


def test_types_and_units_of_a_face(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo, return_landmarks=True))
    assert all(isinstance(v, int) for v in face["bbox"])
    assert abs(face["size"] - (face["bbox"][2] - face["bbox"][0])) <= 1
    assert 0 < face["prob"] <= 1
    assert face["num_det"] == 0
    assert np.array(face["landmarks"]).shape == (5, 2)
    left, top, right, bottom = face["bbox"]
    assert all(left < x < right and top < y < bottom for x, y in face["landmarks"])
    eyes, mouth = face["landmarks"][:2], face["landmarks"][3:]
    assert eyes[0][0] < eyes[1][0]
    assert max(y for _, y in eyes) < min(y for _, y in mouth)


def test_without_embedding_there_is_no_vector(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo, extract_embedding=False))
    assert (face["vec"], face["norm"]) == (None, None)


def test_face_data_is_a_jpeg_of_the_aligned_crop(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo, return_face_data=True))
    crop = Image.open(BytesIO(base64.b64decode(face["facedata"], validate=True)))
    assert (crop.format, crop.size) == ("JPEG", (112, 112))


def test_a_returned_crop_embeds_like_its_image(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo, return_face_data=True))
    (again,) = faces(extract(face["facedata"], embed_only=True))
    assert float(np.dot(face["vec"], again["vec"])) > 0.97


def test_attributes_come_when_asked_for(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo, extract_ga=True, detect_masks=True))
    assert face["gender"] in (0, 1)
    assert isinstance(face["age"], int)
    assert 0 < face["age"] < 110
    assert face["mask"] is False
    assert set(face["mask_probs"]) == {"mask", "no_mask"}
    assert sum(face["mask_probs"].values()) == pytest.approx(1, abs=1e-3)


def test_a_higher_threshold_finds_fewer_faces(extract: Extract, collage: bytes) -> None:
    counts = [len(faces(extract(collage, threshold=t, extract_embedding=False))) for t in (0.3, 0.6, 0.999)]
    assert counts[1] == 6
    assert counts == sorted(counts, reverse=True)
    assert all(face["prob"] >= 0.6 for face in faces(extract(collage, threshold=0.6, extract_embedding=False)))


@pytest.mark.parametrize("threshold", [0, 1])
def test_the_ends_of_the_threshold_are_no_error(extract: Extract, photo: bytes, threshold: int) -> None:
    found = faces(extract(photo, threshold=threshold, limit_faces=5))
    assert len(found) <= 5


def test_faces_come_best_first(extract: Extract, collage: bytes) -> None:
    scores = [face["prob"] for face in faces(extract(collage, extract_embedding=False))]
    assert scores == sorted(scores, reverse=True)


def test_a_limit_keeps_the_largest_faces(extract: Extract, collage: bytes) -> None:
    def area(face: dict[str, Any]) -> int:
        left, top, right, bottom = face["bbox"]
        return int((right - left) * (bottom - top))

    every = sorted((area(f) for f in faces(extract(collage, extract_embedding=False))), reverse=True)
    limited = [area(f) for f in faces(extract(collage, extract_embedding=False, limit_faces=2))]
    assert limited == pytest.approx(every[:2], rel=0.01)  # ranked before the boxes become whole numbers
    assert len(faces(extract(collage, extract_embedding=False, limit_faces=0))) == 6


@pytest.mark.parametrize("value", [-1, "-1", -(10**9)])
def test_a_negative_limit_is_none_as_in_the_original(
    extract: Extract, client: httpx2.Client, collage: bytes, value: int | str
) -> None:
    limits = {"limit_faces": value, "min_face_size": value}
    assert len(faces(extract(collage, extract_embedding=False, **limits))) == 6
    packed = ormsgpack.packb({"images": {"data": [collage]}, "extract_embedding": False, **limits})
    answer = client.post("/extract", content=packed, headers={"Content-Type": "application/msgpack"}).json()
    assert len(answer["data"][0]["faces"]) == 6
    form = {"extract_embedding": "false", **{name: str(limit) for name, limit in limits.items()}}
    assert len(client.post("/multipart/extract", files={"file": collage}, data=form).json()["data"][0]["faces"]) == 6


def test_small_faces_are_dropped_and_the_others_stay_under_their_image(
    extract: Extract, photos: dict[str, bytes]
) -> None:
    """Large and small faces by turns: each face that is left has the vector of its own image."""
    small = photos["person_a_1"]
    images = [photos["person_b_1"], small, photos["impostor_1"], small, photos["person_b_2"]]
    every = extract(*images)
    sizes = [faces(every, i)[0]["size"] for i in range(5)]
    limit = max(sizes[1], sizes[3]) + 1
    assert all(sizes[i] >= limit for i in (0, 2, 4)), sizes
    kept = extract(*images, min_face_size=limit)
    assert [len(faces(kept, i)) for i in range(5)] == [1, 0, 1, 0, 1]
    for i in (0, 2, 4):
        assert np.abs(np.array(faces(kept, i)[0]["vec"]) - faces(every, i)[0]["vec"]).max() <= 1e-4


def test_ranks_show_the_gaps_that_small_faces_leave(extract: Extract, collage: bytes) -> None:
    every = faces(extract(collage, extract_embedding=False))
    limit = sorted(face["size"] for face in every)[3]
    kept = faces(extract(collage, extract_embedding=False, min_face_size=limit))
    assert [f["num_det"] for f in kept] == [f["num_det"] for f in every if f["size"] >= limit]


def test_verbose_timings_say_where_the_time_went(extract: Extract, photo: bytes) -> None:
    plain, verbose = extract(photo), extract(photo, verbose_timings=True)
    assert set(plain["took"]) == {"total_ms"}
    assert set(verbose["took"]) == {"total_ms", "read_imgs_ms", "embed_all_ms"}
    assert all(value > 0 for value in verbose["took"].values())


def test_an_image_s_time_is_its_real_processing_time(extract: Extract, photo: bytes) -> None:
    answer = extract(photo)
    assert 1 < answer["data"][0]["took_ms"] <= answer["took"]["total_ms"]


# --- embed_only


def test_crops_are_answered_in_the_one_envelope(extract: Extract, photo: bytes) -> None:
    crop = resized(photo, 112)
    answer = extract(crop, crop, embed_only=True)
    assert set(answer) == {"took", "data"}
    for i in range(2):
        (face,) = faces(answer, i)
        assert (face["bbox"], face["size"], face["prob"]) == ([0, 0, 112, 112], 112, 1.0)
        assert len(face["vec"]) == 512


@pytest.mark.parametrize("side", [111, 113, 640])
def test_a_crop_of_another_size_fails_alone_and_says_why(extract: Extract, photo: bytes, side: int) -> None:
    answer = extract(resized(photo, 112), resized(photo, side), resized(photo, 112), embed_only=True)
    assert [image["status"] for image in answer["data"]] == ["success", "error", "success"]
    assert f"112x112 crops; this image is {side}x{side}" in answer["data"][1]["error"]


# --- validation


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", -0.1),
        ("threshold", 1.1),
        ("threshold", "high"),
        ("threshold", []),
        ("threshold", {}),
        ("limit_faces", "many"),
        ("limit_faces", 1.5),
        ("limit_faces", 10**30),
        ("min_face_size", 10**30),
        ("min_face_size", "big"),
        ("min_face_size", [1]),
        ("embed_only", "maybe"),
        ("embed_only", 7),
        ("return_face_data", []),
        ("return_landmarks", {}),
        ("extract_embedding", 3),
        ("extract_ga", "x"),
        ("detect_masks", 2),
        ("verbose_timings", "?"),
        ("msgpack", "?"),
        ("img_req_headers", []),
        ("img_req_headers", "x"),
        ("img_req_headers", {"a": 1}),
        ("images", []),
        ("images", "x"),
        ("images", 1),
    ],
)
def test_a_wrong_value_is_a_422_that_names_the_field(client: httpx2.Client, field: str, value: Any) -> None:
    response = client.post("/extract", json={"images": {"data": []}, field: value})
    body = response.json()
    assert response.status_code == 422, body
    assert body["error"]["code"] == "invalid_field"
    assert field in body["error"]["message"]
    assert [item["loc"][0] for item in body["detail"]] == [field]


@pytest.mark.parametrize(
    "images", [{"data": "text"}, {"data": [1]}, {"data": [None]}, {"data": {}}, {"urls": [1]}, {"urls": "http://x"}]
)
def test_wrong_images_are_a_422_that_names_where(client: httpx2.Client, images: dict[str, Any]) -> None:
    response = client.post("/extract", json={"images": images})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][:2] == ["images", next(iter(images))]


def test_a_body_without_images_says_so(client: httpx2.Client) -> None:
    response = client.post("/extract", json={})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["images"]


def test_nulls_mean_defaults_and_unknown_fields_mean_nothing(extract: Extract, photo: bytes) -> None:
    names = [
        "threshold", "embed_only", "return_face_data", "return_landmarks", "extract_embedding", "extract_ga",
        "detect_masks",
        "limit_faces", "min_face_size", "verbose_timings", "msgpack", "img_req_headers",
    ]  # fmt: skip
    (plain,) = faces(extract(photo))
    (nulls,) = faces(extract(photo, **dict.fromkeys(names), max_size=[640, 640], api_ver="2", nonsense={"a": 1}))
    assert set(nulls) == set(plain)
    assert np.abs(np.array(nulls["vec"]) - plain["vec"]).max() <= 1e-4
    assert nulls["bbox"] == plain["bbox"]


def test_lenient_types_are_understood_as_before(extract: Extract, photo: bytes) -> None:
    (face,) = faces(extract(photo, threshold="0.7", extract_embedding="False", return_landmarks=1, limit_faces="1"))
    assert face["vec"] is None
    assert len(face["landmarks"]) == 5


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"{'images': {}}"])
def test_what_is_no_json_object_is_refused(client: httpx2.Client, body: bytes) -> None:
    response = client.post("/extract", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert json.loads(response.content)["error"]["message"]


# --- forms


def test_form_fields_are_the_same_parameters(client: httpx2.Client, photo: bytes) -> None:
    fields = {"return_landmarks": "true", "extract_embedding": "false", "threshold": "0.5", "limit_faces": "1"}
    answer = client.post("/multipart/extract", files={"file": photo}, data=fields).json()
    (face,) = answer["data"][0]["faces"]
    assert len(face["landmarks"]) == 5
    assert face["vec"] is None


@pytest.mark.parametrize(
    ("value", "kind"), [("true", "application/x-msgpack"), ("0", "application/json"), ("", "application/json")]
)
def test_a_form_may_ask_for_messagepack(client: httpx2.Client, photo: bytes, value: str, kind: str) -> None:
    for route, uploads in {"/multipart/extract": 1, "/multipart/compare": 2}.items():
        files = [("file", photo)] * uploads
        response = client.post(route, files=files, data={"msgpack": value, "extract_embedding": "false"})
        assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert "similarity" in (ormsgpack.unpackb(response.content) if value == "true" else response.json())


def test_a_wrong_form_field_is_named(client: httpx2.Client, photo: bytes) -> None:
    response = client.post("/multipart/extract", files={"file": photo}, data={"threshold": "2"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["threshold"]


def test_a_form_without_a_file_says_so(client: httpx2.Client) -> None:
    response = client.post("/multipart/extract", files={"x": (None, "not a file")})
    assert response.status_code == 422
    assert "file" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"garbage", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=f", 400),
        ("application/json", b"{}", 415),
    ],
)
def test_broken_forms_are_refused(client: httpx2.Client, content_type: str, body: bytes, status: int) -> None:
    response = client.post("/multipart/extract", content=body, headers={"Content-Type": content_type})
    assert response.status_code in (status, 422), response.text
