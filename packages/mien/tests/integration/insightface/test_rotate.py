"""`rotate` says whether faces that lie on their side or are upside down are found, on every route that finds faces."""

from itertools import pairwise

import cv2
import httpx2
import numpy as np
import pytest

from mien.vision.image import decode

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def turned(photo: bytes, degrees: int) -> bytes:
    image = decode(photo, max_pixels=10**7, max_bytes=10**7)
    return cv2.imencode(".png", cv2.rotate(image, TURNS[degrees]))[1].tobytes() if degrees else photo


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_face_that_lies_is_recognised_as_the_one_that_stands(extract, photo: bytes, degrees: int) -> None:
    (up,), (down,) = (image["faces"] for image in extract(photo, turned(photo, degrees), return_landmarks=True)["data"])
    assert np.dot(up["vec"], down["vec"]) > 0.8
    (left, right), roll = np.array(down["landmarks"][:2]), np.radians(degrees)
    assert np.dot(right - left, [np.cos(roll), np.sin(roll)]) > 0.9 * np.linalg.norm(right - left)
    x1, y1, x2, y2 = down["bbox"]
    assert all(x1 <= x <= x2 and y1 <= y <= y2 for x, y in down["landmarks"])


def test_a_higher_threshold_never_adds_faces(extract, photo: bytes) -> None:
    lying = turned(photo, 90)
    found = [
        {tuple(face["bbox"]) for face in extract(lying, threshold=limit, extract_embedding=False)["data"][0]["faces"]}
        for limit in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    ]
    assert all(higher <= lower for lower, higher in pairwise(found))
    assert found[2]


def test_off_does_not_look_at_an_image_on_its_side(extract, photo: bytes) -> None:
    assert not extract(turned(photo, 90), rotate="off")["data"][0]["faces"]


def test_anything_else_is_refused(client: httpx2.Client) -> None:
    response = client.post("/extract", json={"images": {"data": []}, "rotate": "90"})
    assert response.status_code == 422
    assert "rotate" in response.text
