"""Non-maximum suppression."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mien.vision.nms import MAX_CANDIDATES, nms


def iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    overlap = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - overlap
    return overlap / union if union else 0.0


@given(st.integers(0, 30).flatmap(lambda n: arrays(np.float32, (n, 5), elements=st.integers(0, 20))))
def test_kept_boxes_do_not_overlap_and_dropped_ones_overlap_a_better_one(numbers: np.ndarray) -> None:
    boxes = np.concatenate((numbers[:, :2], numbers[:, :2] + numbers[:, 2:4] + 1), axis=1)
    scores = numbers[:, 4] / np.float32(20)
    kept = nms(boxes, scores, 0.3)
    assert (np.diff(scores[kept]) <= 0).all()
    for index in range(len(boxes)):
        better = [k for k in kept if k != index and scores[k] >= scores[index]]
        overlaps = any(iou(boxes[k], boxes[index]) > 0.3 - 1e-6 for k in better)
        assert index in kept or overlaps
        if index in kept:
            assert all(iou(boxes[k], boxes[index]) <= 0.3 + 1e-6 for k in kept if k != index)


def test_a_hundred_thousand_candidates_take_no_seconds() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 5000, (100_000, 2)).astype(np.float32)
    boxes = np.concatenate((corners, corners + 10), axis=1)
    started = time.thread_time()
    kept = nms(boxes, rng.uniform(0, 1, 100_000).astype(np.float32), 0.3, 1024)
    assert time.thread_time() - started < 1
    assert len(kept) == 1024 <= MAX_CANDIDATES


def test_boxes_in_a_better_one_or_around_its_centre_are_dropped_unless_they_may_be_nested() -> None:
    face, eye, beside, head = [0, 0, 100, 130], [20, 40, 40, 60], [95, 60, 130, 100], [-60, -70, 165, 195]
    boxes = np.array([face, eye, beside, head], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    assert nms(boxes, scores, 0.3).tolist() == [0, 1, 2, 3]
    assert nms(boxes, scores, 0.3, nested=False).tolist() == [0, 2]
    better_inside = np.array([0.7, 0.9, 0.8, 0.6], np.float32)
    assert nms(boxes, better_inside, 0.3, nested=False).tolist() == [1, 2, 0]


def test_nothing_in_nothing_out() -> None:
    assert len(nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.3)) == 0
