"""Close-ups of heads: roll from landmarks, upright squares, and the way back to the image."""

import cv2
import numpy as np
import pytest

from mien.vision.align import ARCFACE_TEMPLATE
from mien.vision.upright import Square, close_up, roll_of, square_around


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """The points turned clockwise as seen in an image, around the centre of the crop."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((points - 56) @ turn.T + 56).astype(np.float32)


@pytest.mark.parametrize("degrees", [-179, -90, -30, 0, 15, 90, 179])
def test_roll_is_the_angle_by_which_a_face_leans_clockwise(degrees: float) -> None:
    assert roll_of(turned(ARCFACE_TEMPLATE, degrees)) == pytest.approx(degrees, abs=1e-3)


def test_a_mirrored_face_leans_the_other_way() -> None:
    leaning = turned(ARCFACE_TEMPLATE, 20)
    mirrored = (leaning * [-1, 1] + [111, 0])[[1, 0, 2, 4, 3]].astype(np.float32)
    assert roll_of(mirrored) == pytest.approx(-20, abs=1)  # the template is not quite symmetric


def test_the_square_has_the_centre_of_the_box_and_its_mean_side() -> None:
    square = square_around(np.array([10, 20, 50, 110], np.float32), ARCFACE_TEMPLATE, 1.5)
    assert square.centre.tolist() == [30, 65]
    assert square.side == pytest.approx(1.5 * 60)


@pytest.mark.parametrize("side", [40.0, 100.0, 900.0], ids=["enlarged", "as it is", "shrunk first"])
@pytest.mark.parametrize("roll", [0.0, 35.0, -120.0])
def test_points_of_a_close_up_are_found_again_in_the_image(side: float, roll: float) -> None:
    image = np.zeros((1200, 1300, 3), np.uint8)
    spot = np.array([640.0, 610.0])
    cv2.circle(image, (640, 610), max(2, int(side / 25)), (255, 255, 255), cv2.FILLED)
    found = close_up(image, Square(np.array([630, 600], np.float32), side, roll), 96)
    assert found.image.shape == (96, 96, 3)
    weights = found.image[..., 0].astype(float)
    rows, columns = np.indices(weights.shape)
    seen = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
    assert np.linalg.norm(found.to_source(seen) - spot) < 0.02 * side


def test_a_turned_square_stands_upright() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[100:] = 255  # turned clockwise by 90 degrees, what was above is on the right
    found = close_up(image, Square(np.array([100, 100], np.float32), 80, 180.0), 40).image
    assert found[2, 20].tolist() == [255, 255, 255]
    assert found[-3, 20].tolist() == [0, 0, 0]


def test_what_is_beyond_the_image_is_black() -> None:
    image = np.full((50, 50, 3), 255, np.uint8)
    found = close_up(image, Square(np.array([0, 0], np.float32), 60, 0.0), 30).image
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[-1, -1].tolist() == [255, 255, 255]
