"""Drawn detections."""

import io

import numpy as np
import pytest
from PIL import Image

from mien.vision.draw import GREEN, RED, draw_detections, encode_jpeg
from mien.vision.types import EMPTY, Detections

FACE = Detections(
    np.array([[60, 60, 140, 160]], np.float32),
    np.array([0.987], np.float32),
    np.array([[[85, 95], [115, 95], [100, 115], [88, 135], [112, 135]]], np.float32),
    np.ones(1, np.float32),
)


def canvas(height: int = 200, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 30, np.uint8)


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(-1).any())


def test_the_image_itself_is_not_drawn_on() -> None:
    image = canvas()
    draw_detections(image, FACE, detector="yunet")
    assert (image == 30).all()


def test_boxes_are_green_and_red_without_a_mask() -> None:
    assert has(draw_detections(canvas(), FACE, detector="yunet"), GREEN)
    bare = draw_detections(canvas(), FACE, detector="yunet", masks=[False])
    assert has(bare, RED)
    assert not has(bare, GREEN)
    assert has(draw_detections(canvas(), FACE, detector="yunet", masks=[None]), GREEN)


def test_each_part_can_be_left_out() -> None:
    everything = draw_detections(canvas(), FACE, detector="yunet")
    for part in ("landmarks", "scores", "sizes"):
        assert (draw_detections(canvas(), FACE, detector="yunet", **{part: False}) != everything).any()


def test_the_total_stands_at_the_bottom_left_even_without_faces() -> None:
    drawn = draw_detections(canvas(), EMPTY, detector="yunet")
    assert has(drawn[-20:, :80], (255, 255, 255))
    assert (drawn[:150] == 30).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (1, 2000), (3000, 2000)])
def test_any_image_and_any_box_can_be_drawn(height: int, width: int) -> None:
    for box in ([-1e9, -1e9, 1e9, 1e9], [0, 0, 0, 0], [5e4, 5e4, 6e4, 6e4], [np.inf, 0, 1, 1]):
        face = Detections(np.array([box], np.float32), FACE.scores, FACE.landmarks, FACE.scales)
        assert draw_detections(canvas(height, width), face, detector="x").shape == (height, width, 3)


def test_images_are_encoded_with_their_colours() -> None:
    image = canvas(16, 24)
    image[:] = 200, 100, 50
    decoded = Image.open(io.BytesIO(encode_jpeg(image)))
    assert (decoded.format, decoded.size) == ("JPEG", (24, 16))
    assert np.abs(np.asarray(decoded).astype(int) - [50, 100, 200]).max() <= 3


def test_small_faces_in_a_large_image_are_not_painted_over() -> None:
    face = Detections(
        np.array([[1000, 1000, 1020, 1026]], np.float32),
        FACE.scores,
        np.array([[[1006, 1010], [1014, 1010], [1010, 1014], [1007, 1018], [1013, 1018]]], np.float32),
        np.ones(1, np.float32),
    )
    drawn = draw_detections(canvas(3000, 4000), face, detector="yunet")
    inside = drawn[1001:1026, 1001:1020]
    assert (inside == 30).all(-1).mean() > 0.75
    assert has(drawn[1000:1001, 1000:1020], GREEN)
