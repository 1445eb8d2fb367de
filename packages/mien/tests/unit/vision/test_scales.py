"""At which sizes and in which tiles an image is looked at, and how what they show is merged."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.detection_size import LEAST, MOST, DetectionSize
from mien.faces.detection import merged
from mien.vision.detectors.scales import (
    COARSE_SIDE,
    ENLARGED_SIDE,
    MARGIN,
    OVERLAP,
    STEP,
    TILE,
    Level,
    Tile,
    auto_scale,
    finest_scale,
    levels,
)
from mien.vision.types import Array, Detections

sides = st.integers(1, 12_000)
sizes = st.one_of(st.integers(LEAST, MOST), st.sampled_from(["auto", "full"]))
inputs = st.sampled_from([320, 480, TILE])


def covered(level: Level) -> bool:
    """Whether each pixel is in a tile, and no tile reaches over the edge."""
    rows = sorted({(tile.top, tile.bottom) for tile in level.tiles})
    columns = sorted({(tile.left, tile.right) for tile in level.tiles})
    assert len(rows) * len(columns) == len(level.tiles)
    return _spans(rows, level.height) and _spans(columns, level.width)


def _spans(spans: list[tuple[int, int]], length: int) -> bool:
    joined = all(after[0] < before[1] for before, after in itertools.pairwise(spans))
    return joined and spans[0][0] == 0 and spans[-1][1] == length


@given(height=sides, width=sides, size=sizes, tile=inputs)
def test_every_pixel_is_looked_at_at_every_size(height: int, width: int, size: DetectionSize, tile: int) -> None:
    for level in levels(height, width, size, tile):
        assert covered(level)
        assert level.height >= 1
        assert level.width >= 1


@given(height=sides, width=sides, size=sizes, tile=inputs)
def test_tiles_of_a_level_are_of_one_shape_and_fit_the_model(
    height: int, width: int, size: DetectionSize, tile: int
) -> None:
    for level in levels(height, width, size, tile):
        ((rows, columns),) = {(one.bottom - one.top, one.right - one.left) for one in level.tiles}
        assert rows <= tile
        assert columns <= tile


@given(data=st.data(), height=sides, width=sides, size=sizes, tile=inputs)
def test_a_face_as_large_as_the_overlap_is_whole_in_some_tile(
    data: st.DataObject, height: int, width: int, size: DetectionSize, tile: int
) -> None:
    for level in levels(height, width, size, tile):
        side = min(OVERLAP, tile // 4) - 2 * MARGIN
        wide, tall = min(side, level.width), min(side, level.height)
        x, y = data.draw(st.integers(0, level.width - wide)), data.draw(st.integers(0, level.height - tall))
        box = np.array([[x, y, x + wide, y + tall]], np.float32)
        assert any(shows(one, box) for one in level.tiles)


def shows(tile: Tile, boxes: Array) -> bool:
    inside = boxes - np.array([tile.left, tile.top] * 2, np.float32)
    limits = tile.right - tile.left, tile.bottom - tile.top
    within = (inside[:, :2] >= 0).all() and (inside[:, 2:] <= limits).all()
    return bool(within and tile.shows_whole(inside).all())


@given(height=sides, width=sides, size=sizes)
def test_what_one_level_cuts_the_next_shows_at_a_good_size(height: int, width: int, size: DetectionSize) -> None:
    found = levels(height, width, size)
    assert max(found[-1].height, found[-1].width) <= COARSE_SIDE
    for fine, coarse in itertools.pairwise(found):
        assert fine.scale / coarse.scale == pytest.approx(STEP)


@given(height=sides, width=sides)
def test_auto_is_never_coarser_than_640_pixels_and_enlarges_only_tiny_images(height: int, width: int) -> None:
    scale, longest = auto_scale(height, width), max(height, width)
    assert scale <= 1 or (longest < ENLARGED_SIDE and scale <= 2 and scale * longest <= ENLARGED_SIDE + 1e-6)
    assert scale * longest >= min(640, longest) - 1e-6


@given(height=st.integers(200, 12_000), width=st.integers(200, 12_000))
def test_auto_makes_the_least_face_it_promises_large_enough(height: int, width: int) -> None:
    longest = max(height, width)
    least = max(20, longest / 110)
    assert least * auto_scale(height, width) >= 11.9


@given(height=sides, width=sides)
def test_auto_looks_at_few_pixels(height: int, width: int) -> None:
    pixels = sum(
        (tile.bottom - tile.top) * (tile.right - tile.left)
        for level in levels(height, width, "auto")
        for tile in level.tiles
    )
    assert pixels < 3_000_000


def test_a_number_is_the_longest_side_and_full_is_native() -> None:
    assert finest_scale(3000, 4000, 640) == 0.16
    assert finest_scale(300, 400, 640) == 1
    assert finest_scale(3000, 4000, "full") == 1


# --- merging


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    count = len(scores)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.zeros((count, 5, 2), np.float32),
        np.ones(count, np.float32),
    )


boxes = st.lists(
    st.tuples(st.floats(0, 100, width=32), st.floats(0, 100, width=32), st.floats(1, 60, width=32)), max_size=24
)


@st.composite
def candidates(draw: st.DrawFn) -> Detections:
    squares = draw(boxes)
    scores = draw(st.lists(st.floats(0, 1, width=32), min_size=len(squares), max_size=len(squares), unique=True))
    return detections([[x, y, x + side, y + side] for x, y, side in squares], scores)


def above(found: Detections, threshold: float) -> Detections:
    return found.take(found.scores > threshold)


@given(parts=st.lists(candidates(), max_size=4), threshold=st.floats(0, 1), overlap=st.floats(0, 1))
def test_a_higher_threshold_only_takes_faces_away(parts: list[Detections], threshold: float, overlap: float) -> None:
    all_faces = merged(parts, overlap, 1000)
    fewer = merged([above(part, threshold) for part in parts], overlap, 1000)
    kept = above(all_faces, threshold)
    assert fewer.boxes.tolist() == kept.boxes.tolist()
    assert fewer.scores.tolist() == kept.scores.tolist()


@given(parts=st.lists(candidates(), max_size=4), side=st.floats(1, 100, width=32))
def test_a_face_elsewhere_removes_none(parts: list[Detections], side: float) -> None:
    new = detections([[1000, 1000, 1000 + side, 1000 + side]], [1.0])
    before, after = merged(parts, 0.3, 1000), merged([*parts, new], 0.3, 1000)
    assert [box for box in after.boxes.tolist() if box[0] != 1000] == before.boxes.tolist()


def test_of_two_sizes_the_better_score_stays_with_its_scale() -> None:
    fine = detections([[10, 10, 50, 50]], [0.8])
    coarse = Detections(fine.boxes + 2, np.array([0.9], np.float32), fine.landmarks, np.array([0.25], np.float32))
    found = merged([fine, coarse], 0.3, 10)
    assert found.boxes.tolist() == [[12, 12, 52, 52]]
    assert found.scales.tolist() == [0.25]


def test_a_face_cut_by_an_inner_edge_is_left_to_others() -> None:
    tile = Tile(512, 0, 1152, 300, inner=(True, False, True, False))
    cut_left, cut_right, at_the_image_s_edge, whole = (
        [1.0, 50, 60, 120],
        [600.0, 50, 639, 120],
        [100.0, -5, 160, 60],
        [100.0, 100, 160, 160],
    )
    kept = tile.shows_whole(np.array([cut_left, cut_right, at_the_image_s_edge, whole], np.float32))
    assert kept.tolist() == [False, False, True, True]
