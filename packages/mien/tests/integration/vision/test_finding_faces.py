"""Which faces of an image are found depends on the image alone, and none hides another."""

from collections.abc import Callable

import numpy as np
import pytest

from mien.detection_size import DetectionSize
from mien.vision.types import Detections, Image
from testing.crowds import Crowd, Portrait, background, crowd, false_alarms, hits, with_large_face

Find = Callable[..., Detections]


def recall(made: Crowd, found: Detections) -> float:
    return float((hits(made.boxes, found.boxes) >= 0).mean())


@pytest.fixture(scope="module")
def group(people: list[Portrait]) -> Crowd:
    """A photo of 1600 × 900 pixels: many people, and one close to the camera."""
    return with_large_face(people, crowd(people, 1600, 900, 90, (20, 60)), 0.5)


def test_one_large_face_hides_nobody(find: Find, group: Crowd) -> None:
    found = find(group.image)
    assert len(group.boxes) > 30
    assert recall(group, found) >= 0.98
    assert len(false_alarms(group, found.boxes)) == 0


@pytest.mark.parametrize("size", ["auto", "full", 320, 640])
def test_a_threshold_only_takes_faces_away(find: Find, group: Crowd, size: DetectionSize) -> None:
    every = find(group.image, size, 0.05)
    for threshold in (0.3, 0.6, 0.75, 0.9, 0.93):
        passing = every.take(every.scores > threshold)
        fewer = find(group.image, size, threshold)
        assert fewer.boxes.tolist() == passing.boxes.tolist()
        assert fewer.scores.tolist() == passing.scores.tolist()
        assert fewer.landmarks.tolist() == passing.landmarks.tolist()


def test_a_face_more_leaves_the_others_where_they_are(find: Find, people: list[Portrait]) -> None:
    before = crowd(people, 1600, 900, 40, (20, 90), seed=3)
    after = with_large_face(people, before, 0.35)
    alone, together = find(before.image), find(after.image)
    kept = alone.take(hits(after.boxes[1:], alone.boxes))
    partners = hits(kept.boxes, together.boxes, 0.9)
    assert (partners >= 0).all()
    assert np.allclose(together.scores[partners], kept.scores, atol=0.05)  # their surroundings have changed


@pytest.mark.full
def test_everybody_on_a_panorama_is_found_once_whatever_the_threshold(find: Find, people: list[Portrait]) -> None:
    made = crowd(people, 12_000, 900, 12, (150, 150))
    for threshold in (0.6, 0.75, 0.8):
        found = find(made.image, "auto", threshold)
        assert recall(made, found) == 1
        assert len(found) == 12


def test_a_face_across_the_edges_of_tiles_is_found_once(find: Find, people: list[Portrait]) -> None:
    rng = np.random.default_rng(0)
    for side in (40, 90, 130, 300):
        for shift in (0, 37, 74):
            image = background(1500, 1100, rng)
            made = with_large_face(people, Crowd(image, np.zeros((0, 4), np.float32)), side / 1100)
            moved = np.roll(made.image, (-100 + shift, -150 + shift), (0, 1))
            box = made.boxes + np.array([-150 + shift, -100 + shift] * 2, np.float32)
            found = find(moved, "full")
            assert len(found) == 1, (side, shift)
            assert (hits(box, found.boxes) >= 0).all()


def test_full_finds_faces_of_20_pixels_where_auto_promises_none(find: Find, people: list[Portrait]) -> None:
    made = crowd(people, 4000, 2000, 40, (20, 24), seed=2)
    assert recall(made, find(made.image, "full")) == 1
    assert recall(made, find(made.image, "auto")) < 0.5


def test_a_face_that_fills_the_image_is_found_at_every_size(find: Find, people: list[Portrait]) -> None:
    for person in people:
        x1, y1, x2, y2 = (int(value) for value in person.box)
        close_up = np.ascontiguousarray(person.image[y1:y2, x1:x2])
        for size in ("auto", "full", 640, 1280):
            assert len(find(close_up, size)) == 1


def test_tiny_images_are_enlarged(find: Find, people: list[Portrait]) -> None:
    made = crowd(people, 64, 64, 1, (13, 13))
    found = find(made.image)
    assert recall(made, found) == 1
    assert found.scales.tolist() == [2]


@pytest.mark.full
def test_a_crowd_that_fills_a_tile_is_found_whole(find: Find, people: list[Portrait]) -> None:
    rows = [crowd(people, 640, 45, 40, (20, 20), seed=seed) for seed in range(14)]
    image = np.concatenate([row.image for row in rows])
    boxes = np.concatenate([row.boxes + np.array([0, 45 * i] * 2, np.float32) for i, row in enumerate(rows)])
    assert len(boxes) > 200
    made = Crowd(image, boxes)
    for threshold in (0.3, 0.6):
        assert recall(made, find(image, "auto", threshold)) > 0.995


def test_the_scale_of_a_face_is_that_at_which_it_was_found(find: Find, people: list[Portrait]) -> None:
    made = with_large_face(people, crowd(people, 4000, 3000, 20, (40, 60)), 0.6)
    found = find(made.image)
    first, *others = hits(made.boxes, found.boxes)
    assert found.scales[first] == pytest.approx(1312 / 4000 / 4)
    assert found.scales[others] == pytest.approx(1312 / 4000)


@pytest.mark.parametrize(("name", "side"), [("centerface", None), ("yunet", 320), ("yunet", 640)])
@pytest.mark.full
def test_other_detectors_and_fixed_inputs_find_crowds_too(
    finder: Callable[..., Find], people: list[Portrait], name: str, side: int | None
) -> None:
    made = with_large_face(people, crowd(people, 1100, 800, 40, (24, 60), seed=5), 0.5)
    find = finder(name, side)
    found = find(made.image)
    assert recall(made, found) >= 0.98
    assert len(false_alarms(made, found.boxes)) == 0


def test_black_and_thin_images_show_nobody(find: Find) -> None:
    for shape in ((1, 1), (1, 5000), (5000, 1), (2000, 3), (700, 900)):
        image: Image = np.zeros((*shape, 3), np.uint8)
        for size in ("auto", "full", 64):
            assert len(find(image, size)) == 0
