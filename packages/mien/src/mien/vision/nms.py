"""Greedy non-maximum suppression."""

import numpy as np
from numpy.typing import NDArray

from mien.vision.types import Array

MAX_CANDIDATES = 8192
"""Maximum number of boxes considered: a threshold of 0 on a large image yields 10⁵, which would take seconds.

A crowd of 500 faces of 20 pixels, all that fit into 768 × 768, has 4,600 above 0.3.
"""
TINY = np.float32(1e-12)
INSIDE = np.float32(0.8)
"""Share of a box in a better one from which it is nested: a part of that face, such as an eye."""
CENTRED = np.float32(0.25)
"""Of a box's shorter side: a worse box whose centre is nearer shows the same head, too large or too small."""


def best(scores: Array, most: int = MAX_CANDIDATES) -> NDArray[np.intp]:
    """Indices of the `most` highest scores, highest first; equal scores keep their order."""
    if len(scores) > most:
        top = np.sort(np.argpartition(-scores, most - 1)[:most])
        return top[np.argsort(-scores[top], kind="stable")]
    return np.argsort(-scores, kind="stable")


def nms(
    boxes: Array, scores: Array, threshold: float, limit: int | None = None, *, nested: bool = True
) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best score first.

    `boxes` [N, 4] x1, y1, x2, y2; `scores` [N]. A box is dropped if its intersection over union with a better kept box
    is above `threshold` (0..1); without `nested`, also if it lies mostly in one, or around the same centre. Considers
    only the best `MAX_CANDIDATES` and stops after keeping `limit` boxes.
    """
    order = best(scores)
    limit = len(order) if limit is None else limit
    corners = boxes[order]
    areas = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    remaining = np.arange(len(order))
    kept: list[int] = []
    while len(remaining) and len(kept) < limit:
        first, remaining = remaining[0], remaining[1:]
        kept.append(int(first))
        if len(remaining):
            shared = _intersection(corners, first, remaining)
            apart = shared <= threshold * np.maximum(areas[first] + areas[remaining] - shared, TINY)
            if not nested:
                apart &= (shared <= INSIDE * areas[remaining]) & ~_concentric(corners, first, remaining)
            remaining = remaining[apart]
    return order[kept]


def _concentric(corners: Array, one: np.intp, others: NDArray[np.intp]) -> NDArray[np.bool_]:
    near = CENTRED * (corners[one, 2:] - corners[one, :2]).min()
    sums = corners[others, :2] + corners[others, 2:]
    apart = np.abs(sums - (corners[one, :2] + corners[one, 2:])) / 2
    return np.asarray(apart.max(1) < near, np.bool_)


def _intersection(corners: Array, one: np.intp, others: NDArray[np.intp]) -> Array:
    theirs = corners[others]
    sides = np.minimum(corners[one, 2:], theirs[:, 2:]) - np.maximum(corners[one, :2], theirs[:, :2])
    np.maximum(sides, 0, out=sides)
    shared: Array = sides[:, 0] * sides[:, 1]
    return shared


def iou(box: Array, others: Array) -> Array:
    """Intersection over union [N] of `box` [4] with each of `others` [N, 4]; x1, y1, x2, y2."""
    corners = np.concatenate((box[np.newaxis], others))
    areas = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    shared = _intersection(corners, np.intp(0), np.arange(1, len(corners)))
    ratio: Array = shared / np.maximum(areas[0] + areas[1:] - shared, TINY)
    return ratio
