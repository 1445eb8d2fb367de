"""Close-ups for the second landmark pass: their geometry at every angle, and which look at a face is believed."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.vision.align import ARCFACE_TEMPLATE
from mien.vision.refine import (
    CROP_SIDE,
    Look,
    clearer,
    clearest,
    face_close_up,
    first_roll,
    look_of,
    straighter,
    turned,
    turned_again,
)
from mien.vision.types import EMPTY, Array, Detections
from mien.vision.upright import roll_of

IMAGE = np.zeros((200, 300, 3), np.uint8)
angles = st.floats(-179, 179)


def leaning(degrees: float, centre: tuple[float, float] = (150, 100), scale: float = 1.0) -> Array:
    """The landmarks of a face that leans clockwise by `degrees`."""
    radians = np.radians(degrees)
    turn = scale * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    return ((ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)) @ turn.T + centre).astype(np.float32)


def detections(boxes: list[list[float]], scores: list[float], landmarks: Array) -> Detections:
    return Detections(
        np.array(boxes, np.float32), np.array(scores, np.float32), landmarks, np.ones(len(scores), np.float32)
    )


@given(angles, st.floats(0.1, 20))
def test_the_roll_of_a_face_is_read_from_its_landmarks(degrees: float, scale: float) -> None:
    assert roll_of(leaning(degrees, scale=scale)) == pytest.approx(degrees, abs=0.01)


@given(st.floats(-50, 250), st.floats(-50, 250), st.floats(1, 300), st.floats(1, 300), angles)
def test_the_face_is_centred_and_half_as_long_as_the_crop(x: float, y: float, w: float, h: float, roll: float) -> None:
    crop = face_close_up(IMAGE, np.array([x, y, x + w, y + h], np.float32), roll)
    assert crop.image.shape == (CROP_SIDE, CROP_SIDE, 3)
    ends = crop.to_source(np.array([[40, 80], [120, 80], [80, 80]], np.float32))
    assert np.allclose(ends[2], [x + w / 2, y + h / 2], atol=0.05)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(max(w, h), rel=1e-3)
    along = np.degrees(np.arctan2(*(ends[1] - ends[0])[::-1]))
    assert turned(float(along) - roll) == pytest.approx(0, abs=0.1)


@given(angles)
def test_points_are_mapped_into_the_close_up_and_back(roll: float) -> None:
    crop = face_close_up(IMAGE, np.array([118, 68, 182, 132], np.float32), roll)
    points = leaning(roll, scale=0.5)
    there = points @ crop.matrix[:, :2].T + crop.matrix[:, 2]
    assert np.allclose(crop.to_source(there.astype(np.float32)), points, atol=1e-3)
    assert roll_of(there) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("length", [30, 64, 400, 900])
@pytest.mark.parametrize("roll", [0, 30, 90, 135, 180, -75])
def test_a_dot_is_where_the_mapping_says_at_every_size_and_angle(length: int, roll: int) -> None:
    image = np.zeros((1200, 1300, 3), np.uint8)
    centre, dot = np.array([600, 500]), np.array([600 + length // 4, 500 - length // 5])
    cv2.circle(image, tuple(int(v) for v in dot), length // 8, (255, 255, 255), -1)
    crop = face_close_up(image, np.concatenate((centre - length / 2, centre + length / 2)).astype(np.float32), roll)
    rows, columns = np.nonzero(crop.image[..., 0] > 127)
    seen = crop.to_source(np.array([columns.mean(), rows.mean()], np.float32))
    assert np.abs(seen - dot).max() < length / 100 + 0.3


def test_the_face_nearest_the_centre_is_the_one_looked_at() -> None:
    crop = face_close_up(IMAGE, np.array([0, 0, 80, 80], np.float32), 0.0)
    landmarks = np.stack([np.full((5, 2), 20), np.full((5, 2), 90)]).astype(np.float32)
    look = look_of(detections([[0, 0, 40, 40], [50, 50, 110, 110]], [0.9, 0.6], landmarks), crop, 0.0)
    assert look.score == pytest.approx(0.6)
    assert np.allclose(look.landmarks, 50)


def test_a_neighbour_is_not_taken_for_the_face() -> None:
    crop = face_close_up(IMAGE, np.array([0, 0, 80, 80], np.float32), 0.0)
    look = look_of(detections([[0, 0, 40, 40]], [0.9], np.zeros((1, 5, 2), np.float32)), crop, 30.0)
    assert look == Look(30.0)
    assert look_of(EMPTY, crop, 0.0).landmarks is None


def test_small_rolls_of_the_first_pass_are_not_believed() -> None:
    assert first_roll(leaning(8)) == 0
    assert first_roll(leaning(-35)) == pytest.approx(-35, abs=0.01)


@given(angles, st.floats(5, 60))
def test_a_face_that_still_leans_is_looked_at_again_turned_further(roll: float, shown: float) -> None:
    again = turned_again(Look(roll, 0.9, leaning(roll + shown)))
    assert again is not None
    assert turned(again - roll - 2 * shown) == pytest.approx(0, abs=0.05)


def test_a_face_that_stands_straight_or_is_not_seen_is_not_looked_at_again() -> None:
    assert turned_again(Look(90, 0.9, leaning(92))) is None
    assert turned_again(Look(90)) is None


def test_a_turned_look_is_believed_where_it_is_straighter_and_about_as_clear() -> None:
    known = Look(0, 0.9, leaning(15))
    assert straighter(known, Look(30, 0.88, leaning(31)))
    assert not straighter(known, Look(30, 0.8, leaning(31)))
    assert not straighter(known, Look(30, 0.95, leaning(50)))
    assert not straighter(known, Look(30))


def test_of_several_looks_the_clearest_counts() -> None:
    looks = [Look(0, 0.7), Look(45, 0.9), Look(90, 0.9), Look(135)]
    assert clearest(looks).roll == 45
    assert clearer(looks[0], looks[1])
    assert not clearer(looks[1], looks[2])
