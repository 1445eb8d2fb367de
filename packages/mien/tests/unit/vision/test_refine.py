"""The second landmark pass."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mien.vision.refine import refine_crop, refined_landmarks
from mien.vision.types import EMPTY, Detections

PICTURE = np.zeros((200, 300, 3), np.uint8)


@given(st.floats(-50, 250), st.floats(-50, 250), st.floats(1, 300), st.floats(1, 300))
def test_the_face_is_centred_and_128_pixels_long_in_the_crop(x: float, y: float, w: float, h: float) -> None:
    crop = refine_crop(PICTURE, np.array([x, y, x + w, y + h], np.float32))
    assert crop.image.shape == (256, 256, 3)
    ends = crop.to_source(np.array([[64, 64], [192, 192]], np.float32))
    assert np.allclose(ends.mean(0), [x + w / 2, y + h / 2], atol=0.05)
    assert np.allclose(ends[1] - ends[0], max(w, h), rtol=1e-3)


def test_the_image_is_where_the_mapping_says() -> None:
    image = PICTURE.copy()
    image[90:111, 140:161] = 255
    crop = refine_crop(image, np.array([118, 68, 182, 132], np.float32))
    rows, columns = np.nonzero(crop.image[..., 0] > 128)
    centre = crop.to_source(np.array([columns.mean(), rows.mean()], np.float32))
    assert np.abs(centre - [150, 100]).max() < 0.6


def test_the_face_nearest_the_centre_gives_the_landmarks() -> None:
    crop = refine_crop(PICTURE, np.array([0, 0, 128, 128], np.float32))
    boxes = np.array([[0, 0, 40, 40], [100, 100, 160, 160]], np.float32)
    landmarks = np.stack([np.full((5, 2), 20), np.full((5, 2), 130)]).astype(np.float32)
    found = Detections(boxes, np.array([0.9, 0.6], np.float32), landmarks, np.ones(2, np.float32))
    assert np.allclose(refined_landmarks(found, crop, np.zeros((5, 2), np.float32)), 66)


def test_where_nothing_is_found_the_old_landmarks_stay() -> None:
    fallback = np.ones((5, 2), np.float32)
    crop = refine_crop(PICTURE, np.zeros(4, np.float32))
    assert refined_landmarks(EMPTY, crop, fallback) is fallback
