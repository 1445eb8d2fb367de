"""Alignment and face crops."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mien.vision.align import ARCFACE_TEMPLATE, DLIB_TEMPLATE, align, box_chip, dlib_chip, mask_crop, similarity

POINTS = arrays(np.float64, (5, 2), elements=st.floats(-1000, 1000, allow_subnormal=False))


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """With a singular value decomposition, as published."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(b.T @ a / len(source))
    sign = np.array([1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / a.var(0).sum()
    return np.hstack([scale * rotation, (target.mean(0) - scale * rotation @ source.mean(0))[:, None]])


@given(POINTS)
def test_the_closed_form_is_umeyamas_solution(points: np.ndarray) -> None:
    if points.var(0).sum() < 1:
        return
    np.testing.assert_allclose(
        similarity(points, ARCFACE_TEMPLATE), umeyama(points, ARCFACE_TEMPLATE.astype(np.float64)), atol=1e-5
    )


@given(st.floats(0.05, 20), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500))
def test_a_moved_template_is_moved_back(scale: float, angle: float, x: float, y: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = ARCFACE_TEMPLATE @ turn.T + [x, y]
    matrix = similarity(moved, ARCFACE_TEMPLATE)
    assert np.abs(moved @ matrix[:, :2].T + matrix[:, 2] - ARCFACE_TEMPLATE).max() < 1e-2


def test_many_faces_together_give_the_same_results_as_one_by_one() -> None:
    faces = np.random.default_rng(0).uniform(0, 100, (4, 5, 2))
    together = similarity(faces, ARCFACE_TEMPLATE)
    np.testing.assert_allclose(together, [similarity(face, ARCFACE_TEMPLATE) for face in faces])


def dotted(landmarks: np.ndarray, side: int) -> np.ndarray:
    image = np.zeros((side, side, 3), np.uint8)
    for x, y in landmarks.round().astype(int):
        cv2.circle(image, (int(x), int(y)), side // 80, (255, 255, 255), cv2.FILLED)
    return image


@pytest.mark.parametrize("size", [112, 224])
def test_landmarks_end_on_the_template(size: int) -> None:
    landmarks = (ARCFACE_TEMPLATE * 4 + 100).astype(np.float32)
    crop = align(dotted(landmarks, 700), landmarks, size)
    assert crop.shape == (size, size, 3)
    for x, y in (ARCFACE_TEMPLATE * size / 112).round().astype(int):
        assert crop[y, x].min() > 200


@pytest.mark.parametrize("scale", [30, 200, 600])
def test_dlib_chips_have_the_landmarks_in_place_at_any_size_of_the_face(scale: int) -> None:
    landmarks = (DLIB_TEMPLATE * scale + 0.4 * scale).astype(np.float32)
    chip = dlib_chip(dotted(landmarks, round(1.9 * scale)), landmarks, 64)
    for x, y in ((DLIB_TEMPLATE + 0.2) / 1.4 * 64).round().astype(int):
        assert chip[y - 1 : y + 2, x - 1 : x + 2].max() > 60


def test_a_box_chip_is_half_as_large_again_as_the_box() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[100:200, 120:180] = 255
    chip = box_chip(image, np.array([120, 100, 180, 200], np.float32), 96)
    rows, columns = np.nonzero(chip[..., 0] > 128)
    assert abs((rows.max() - rows.min() + 1) - 64) <= 1
    assert abs((columns.max() - columns.min() + 1) - 38.4) <= 1.5


@pytest.mark.parametrize(
    "box", [[-50, -50, 20, 20], [90, 90, 500, 500], [200, 200, 300, 300], [5, 5, 5, 5], [9, 9, 1, 1]]
)
def test_mask_crops_of_boxes_at_or_beyond_the_edge_exist(box: list[int]) -> None:
    assert mask_crop(np.zeros((100, 100, 3), np.uint8), np.array(box, np.float32)).shape == (224, 224, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (1, 2000)])
def test_degenerate_images_and_landmarks_give_crops(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    for landmarks in (np.zeros((5, 2), np.float32), ARCFACE_TEMPLATE, ARCFACE_TEMPLATE * 1000):
        assert align(image, landmarks).shape == (112, 112, 3)
        assert dlib_chip(image, landmarks, 32).shape == (32, 32, 3)
        assert box_chip(image, landmarks.reshape(-1)[:4]).shape == (96, 96, 3)
