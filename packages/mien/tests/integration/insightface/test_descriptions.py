"""Quality, pose and 68 landmarks: only where asked for, and right on photographs."""

import base64
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

Extract = Callable[..., dict[str, Any]]
ALL = {"return_quality": True, "return_pose": True, "return_landmarks_68": True}


def opened(photo: bytes) -> Image.Image:
    return Image.open(BytesIO(photo)).convert("RGB")


def encoded(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def face(extract: Extract, image: bytes, **parameters: Any) -> dict[str, Any]:
    (found,) = extract(image, **parameters)["data"][0]["faces"]
    return dict(found)


@pytest.fixture(scope="module")
def plain(photos: dict[str, bytes]) -> bytes:
    return photos["person_a_2"]


@pytest.fixture(scope="module")
def described(extract: Extract, plain: bytes) -> dict[str, Any]:
    return face(extract, plain, **ALL)


def test_what_is_asked_for_is_added_to_the_keys_of_every_face(
    extract: Extract, plain: bytes, described: dict[str, Any]
) -> None:
    without = face(extract, plain)
    assert set(described) - set(without) == {"quality", "pose", "landmarks_68"}
    assert described["vec"] == without["vec"]
    assert set(face(extract, plain, return_pose=True)) - set(without) == {"pose"}


def test_a_good_portrait_has_a_high_quality_and_a_damaged_one_a_low_one(
    extract: Extract, plain: bytes, described: dict[str, Any]
) -> None:
    assert described["quality"] > 0.8
    blurred = opened(plain).filter(ImageFilter.GaussianBlur(0.07 * described["size"]))
    assert face(extract, encoded(blurred), return_quality=True)["quality"] < 0.5


def test_quality_is_the_same_without_embeddings(extract: Extract, plain: bytes, described: dict[str, Any]) -> None:
    found = face(extract, plain, return_quality=True, extract_embedding=False)
    assert found["vec"] is None
    assert found["norm"] is None
    assert found["quality"] == pytest.approx(described["quality"], abs=1e-4)


def test_a_mirrored_face_looks_the_other_way(extract: Extract, plain: bytes, described: dict[str, Any]) -> None:
    mirrored = face(extract, encoded(ImageOps.mirror(opened(plain))), return_pose=True)["pose"]
    assert described["pose"]["yaw"] > 5  # he looks to the left edge
    assert mirrored["yaw"] == pytest.approx(-described["pose"]["yaw"], abs=4)
    assert mirrored["pitch"] == pytest.approx(described["pose"]["pitch"], abs=4)


def test_a_leaning_head_has_its_roll_and_keeps_yaw_and_pitch(
    extract: Extract, plain: bytes, described: dict[str, Any]
) -> None:
    leaning = opened(plain).rotate(-20, resample=Image.Resampling.BICUBIC)  # clockwise
    pose = face(extract, encoded(leaning), return_pose=True)["pose"]
    assert pose["roll"] - described["pose"]["roll"] == pytest.approx(20, abs=10)
    assert pose["yaw"] == pytest.approx(described["pose"]["yaw"], abs=8)
    assert pose["pitch"] == pytest.approx(described["pose"]["pitch"], abs=8)


def test_68_landmarks_lie_on_eyes_and_mouth(extract: Extract, plain: bytes) -> None:
    found = face(extract, plain, return_landmarks_68=True, return_landmarks=True)
    points, five = np.array(found["landmarks_68"]), np.array(found["landmarks"])
    assert points.shape == (68, 2)
    seen = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    between_eyes = np.linalg.norm(five[1] - five[0])
    assert np.linalg.norm(np.array(seen) - five, axis=1).mean() < 0.2 * between_eyes


def test_aligned_crops_are_described_too(extract: Extract, plain: bytes) -> None:
    crop = base64.b64decode(face(extract, plain, return_face_data=True)["facedata"])
    found = face(extract, crop, embed_only=True, **ALL)
    assert found["quality"] > 0.5
    assert abs(found["pose"]["roll"]) < 1
    assert np.array(found["landmarks_68"]).shape == (68, 2)


def test_compare_describes_the_faces_of_both_images(client: httpx2.Client, plain: bytes) -> None:
    data = [base64.b64encode(plain).decode()] * 2
    answer = client.post(
        "/compare", json={"images": {"data": data}, "return_quality": True, "return_pose": True}
    ).json()
    for side in answer["faces"]:
        assert side[0]["quality"] > 0.8
        assert set(side[0]["pose"]) == {"yaw", "pitch", "roll"}


@pytest.mark.parametrize("service", ["face_recognition", "face_detection"])
def test_the_services_of_v1_infer_take_the_same_words_as_metadata(
    client: httpx2.Client, plain: bytes, described: dict[str, Any], service: str
) -> None:
    query = {"service": service, "decode": "1", "metadata": json.dumps(dict.fromkeys(ALL, "true"))}
    response = client.post("/v1/infer", params=query, content=plain, headers={"Content-Type": "image/jpeg"})
    (found,) = response.json()["data"]["result_json"]["faces"]
    assert found["quality"] == pytest.approx(described["quality"], abs=1e-4)
    assert found["pose"]["yaw"] == pytest.approx(described["pose"]["yaw"], abs=1e-2)
    assert (found["embedding"] is None) == (service == "face_detection")
