"""What docs/insightface.md promises of `auto` and `full`: the faces they find, and where they see none."""

from collections.abc import Callable

import pytest

from mien.detection_size import DetectionSize
from mien.vision.types import Detections
from testing.crowds import Crowd, Portrait, crowd, false_alarms, hits, textures, with_large_face

Find = Callable[..., Detections]
CROWDS = [
    (640, 480, 60, (20, 60), 0.0),
    (1152, 864, 300, (20, 60), 0.5),
    (1600, 1200, 300, (20, 120), 0.0),
    (2400, 1800, 900, (20, 80), 0.3),
    (4000, 3000, 900, (20, 120), 0.5),
    (12_000, 900, 300, (20, 120), 0.0),
]


def made(people: list[Portrait], case: tuple[int, int, int, tuple[float, float], float]) -> Crowd:
    width, height, faces, sizes, front = case
    group = crowd(people, width, height, faces, sizes, seed=7)
    return with_large_face(people, group, front) if front else group


@pytest.mark.parametrize("case", CROWDS, ids=lambda case: f"{case[0]}x{case[1]}")
@pytest.mark.parametrize("size", ["auto", "full"])
def test_of_the_faces_that_are_promised_98_per_cent_are_found_and_hardly_anything_else(
    find: Find, people: list[Portrait], size: DetectionSize, case: tuple[int, int, int, tuple[float, float], float]
) -> None:
    group = made(people, case)
    least = max(20.0, max(group.image.shape[:2]) / 110) if size == "auto" else 20.0
    found = find(group.image, size)
    promised = group.widths() >= least
    assert promised.sum() >= 15
    assert (hits(group.boxes, found.boxes)[promised] >= 0).mean() >= 0.98
    assert len(false_alarms(group, found.boxes)) <= 0.01 * len(group.boxes)


@pytest.mark.parametrize("seed", range(5))
def test_textures_show_nobody(find: Find, seed: int) -> None:
    for kind, image in textures(40, seed=seed):
        for size in ("auto", "full"):
            assert len(find(image, size, 0.7)) == 0, (kind, size)
