"""Images turned by quarters: what is found in them is where it is in the image itself."""

import cv2
import numpy as np
import pytest

from mien.vision.quarter_turns import QUARTER_TURNS, quarter_turned, turned_back
from mien.vision.types import Detections


@pytest.mark.parametrize("turn", QUARTER_TURNS)
def test_a_pixel_of_the_turned_image_is_found_again(turn: int) -> None:
    image = np.zeros((40, 70, 3), np.uint8)
    image[11, 52] = 255
    y, x = (int(i[0]) for i in np.nonzero(quarter_turned(image, turn)[..., 0]))
    box, points = np.array([[x - 2, y - 5, x + 2, y + 5]], np.float32), np.full((1, 5, 2), (x, y), np.float32)
    found = turned_back(Detections(box, np.ones(1, np.float32), points, np.ones(1, np.float32)), turn, 40, 70)
    wide = turn != cv2.ROTATE_180
    assert found.boxes.tolist() == [[47, 9, 57, 13] if wide else [50, 6, 54, 16]]
    assert np.allclose(found.landmarks, (52, 11))


def test_the_left_eye_stays_the_left_eye_of_the_standing_head() -> None:
    eyes = np.zeros((1, 5, 2), np.float32)
    eyes[0, 0], eyes[0, 1] = (20, 30), (40, 30)
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), eyes, np.ones(1, np.float32))
    back = turned_back(found, cv2.ROTATE_90_CLOCKWISE, 100, 60).landmarks[0]
    assert back[0].tolist() == [30, 79]
    assert back[1].tolist() == [30, 59]
