"""At which sizes, and in which tiles, a detector looks at an image: chosen from the image's dimensions alone.

Were the next size tried only where the last one showed nothing, one large face would hide a crowd, and a higher
threshold would find more. So all sizes are always looked at, and what they show is merged once.

The figures are YuNet's, measured by benchmarks/crowds.py: it finds all faces from 13 pixels of width on, half of those
of 9, and up to 400 pixels of length no other size shows a face better.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.detection_size import DetectionSize
from mien.vision.types import Array

FINE_ENOUGH = 0.64
"""Scale at which a face of 20 pixels is still found: it becomes 12.8 pixels wide."""
LEAST_SIDE, LARGE_SIDE = 640, 1312
"""Longest sides of the finest level that `auto` chooses for small and for large images."""
LARGE_PIXELS = 1312 * 984
"""Of the finest level, for panoramas, which may be longer."""
ENLARGED_SIDE, MOST_ENLARGED = 192, 2.0
"""`auto` enlarges smaller images to this longest side, and at most so many times: for faces of 10 to 16 pixels."""
STEP = 4
"""Each level is so much smaller than the one before it."""
COARSE_SIDE = 480
"""A level of this longest side shows even faces that fill the image."""
LARGE_FACE = 400
"""Length in pixels up to which the next level shows a face no better."""
TILE = 768
"""Greatest side of a model's input, in pixels."""
MULTIPLE = 32
"""Of the sides of all detectors' inputs: other tiles would be padded."""
OVERLAP = 96
"""Of neighbouring tiles, in pixels: what is larger may be cut by all of them, and is left to the next level."""
MARGIN = 4
"""Distance from an inner edge of a tile, in pixels, below which a face counts as cut off by it."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a level, in its pixels, and which of its sides are not those of the level."""

    left: int
    top: int
    right: int
    bottom: int
    inner: tuple[bool, bool, bool, bool] = (False, False, False, False)
    """Left, top, right, bottom."""

    def shows_whole(self, boxes: Array) -> NDArray[np.bool_]:
        """Which of `boxes` [N, 4], in pixels of the tile, are not cut off by an inner side.

        Those that are were seen whole by a neighbour, or at a smaller size.
        """
        left, top, right, bottom = self.inner
        width, height = self.right - self.left, self.bottom - self.top
        whole = np.ones(len(boxes), np.bool_)
        if left:
            whole &= boxes[:, 0] >= MARGIN
        if top:
            whole &= boxes[:, 1] >= MARGIN
        if right:
            whole &= boxes[:, 2] <= width - MARGIN
        if bottom:
            whole &= boxes[:, 3] <= height - MARGIN
        return whole


@dataclass(frozen=True, slots=True)
class Level:
    """The image at one size, and the tiles that cover it."""

    height: int
    width: int
    scale: float
    """Pixels of the level per pixel of the image."""
    least_face: float
    """Length, in pixels of the level, below which the level before this one shows faces better."""
    tiles: tuple[Tile, ...]


def levels(height: int, width: int, size: DetectionSize, tile: int = TILE) -> tuple[Level, ...]:
    """The sizes at which a detector looks at a `height` × `width` image, the finest first.

    `tile`: greatest side of an input. A face that the tiles of one level cut is small enough for the next.
    """
    scale = finest_scale(height, width, size)
    least_face = 0.0
    found: list[Level] = []
    while not found or max(found[-1].height, found[-1].width) > COARSE_SIDE:
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        level = Level(rows, columns, scale, least_face, tuple(_tiles(rows, columns, tile)))
        found.append(level)
        least_face = (LARGE_FACE if len(level.tiles) == 1 else surely_whole(tile)) / STEP
        scale /= STEP
    return tuple(found)


def surely_whole(tile: int) -> float:
    """Length of a face, in pixels, that at least one tile shows whole."""
    return _overlap(tile) - 2 * MARGIN


def finest_scale(height: int, width: int, size: DetectionSize) -> float:
    """Pixels of the finest level per pixel of the image: of what is finer than that, nothing is seen."""
    if size == "full":
        return 1.0
    if size == "auto":
        return auto_scale(height, width)
    return min(1.0, size / max(height, width))


def auto_scale(height: int, width: int) -> float:
    """Fine enough for faces of 20 pixels and of 1/110 of the longest side, whichever is more."""
    longest = max(height, width)
    if longest < ENLARGED_SIDE:
        return min(MOST_ENLARGED, ENLARGED_SIDE / longest)
    large = max(LARGE_SIDE / longest, math.sqrt(LARGE_PIXELS / (height * width)))
    return min(1.0, max(LEAST_SIDE / longest, min(FINE_ENOUGH, large)))


def _tiles(height: int, width: int, side: int) -> Iterator[Tile]:
    for top, bottom in _spans(height, side):
        for left, right in _spans(width, side):
            yield Tile(left, top, right, bottom, (left > 0, top > 0, right < width, bottom < height))


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Spans of equal length, at most `side`, that cover `length`; neighbours share at least the overlap."""
    if length <= side:
        return [(0, length)]
    overlap = _overlap(side)
    count = math.ceil((length - overlap) / (side - overlap))
    each = math.ceil((length + (count - 1) * overlap) / count)
    each = min(side, each + -each % MULTIPLE)
    return [(start, start + each) for start in ((length - each) * i // (count - 1) for i in range(count))]


def _overlap(side: int) -> int:
    return min(OVERLAP, side // 4)
