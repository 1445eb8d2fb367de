"""A photo of which no more pixels are decoded than are needed.

A decoder of JPEG can leave out detail for much less than it costs to decode all of it and to shrink the result.
"""

import time
from dataclasses import dataclass

import numpy as np

from mien.vision.formats.still import Still
from mien.vision.image import decode_still, open_still
from mien.vision.types import Array, Image

FACTORS = (8, 4, 2)
"""Others, such as 8/7, are slower than decoding everything."""
USUAL_SIDE = 2000
"""A view is not smaller than this longest side, in pixels: to decode fewer saves little, and faces that need more
pixels cost a second pass over the data."""
_MIRRORED_X, _MIRRORED_Y, _TRANSPOSED = {2, 3, 6, 7}, {3, 4, 7, 8}, {5, 6, 7, 8}
"""Orientations in which the upright image begins where a line or column of the stored one ends."""


@dataclass(frozen=True, slots=True)
class View:
    """The image, or a smaller copy of it."""

    pixels: Image
    """[H, W, 3] BGR."""
    factor: int = 1
    """Pixels of the image per pixel of the view."""
    left: int = 0
    """Where the view begins, in pixels of the image: 0, or less if it passes the edge."""
    top: int = 0

    def edges_of(self, boxes: Array) -> Array:
        """The `boxes` [..., 4] (x1, y1, x2, y2, pixels of the image) in pixels of the view."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        return boxes if self.factor == 1 else ((boxes - corner) / np.float32(self.factor)).astype(np.float32)

    def points_of(self, points: Array) -> Array:
        """The `points` [..., 2] (centres of pixels of the image) as centres of pixels of the view."""
        if self.factor == 1:
            return points
        corner = np.array([self.left, self.top], np.float32)
        return ((points - corner + 0.5) / np.float32(self.factor) - 0.5).astype(np.float32)

    def edges_on_image(self, boxes: Array) -> Array:
        """The inverse of `edges_of`."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        return boxes if self.factor == 1 else (boxes * np.float32(self.factor) + corner).astype(np.float32)

    def points_on_image(self, points: Array) -> Array:
        """The inverse of `points_of`."""
        if self.factor == 1:
            return points
        corner = np.array([self.left, self.top], np.float32)
        return ((points + 0.5) * np.float32(self.factor) - 0.5 + corner).astype(np.float32)


class Photo:
    """An encoded image. For one thread."""

    def __init__(self, still: Still) -> None:
        self._still = still
        self._view: View | None = None
        self.width, self.height = still.upright_size
        self.decode_seconds = 0.0
        """Spent so far."""

    @classmethod
    def open(cls, data: bytes | memoryview, *, max_pixels: int | None, max_bytes: int) -> "Photo":
        """Checks the file's header and structure; raises as `vision.image.decode`, but for what is damaged in the
        pixels' data."""
        return cls(open_still(data, max_pixels=max_pixels, max_bytes=max_bytes))

    @classmethod
    def of(cls, image: Image) -> "Photo":
        """A photo whose pixels [H, W, 3] have been decoded."""
        height, width = image.shape[:2]
        photo = cls(Still("pixels", (width, height), b""))
        photo._view = View(image)
        return photo

    def view(self, scale: float) -> View:
        """A view with at least `scale` (≤ 1) pixels per pixel of the image, on each side. Raises ImageTruncated."""
        factor = self._factor(scale)
        if self._view is None or self._view.factor > factor:
            started = time.perf_counter()
            self._view = View(decode_still(self._still, factor), factor, *self._corner(factor))
            self.decode_seconds += time.perf_counter() - started
        return self._view

    def pixels(self) -> Image:
        """All of them. Raises ImageTruncated."""
        return self.view(1).pixels

    def _factor(self, scale: float) -> int:
        longest = max(self.width, self.height)
        least = max(scale, min(1.0, USUAL_SIDE / longest))
        return next((factor for factor in FACTORS if self._still.shrinks and factor * least <= 1), 1)

    def _corner(self, factor: int) -> tuple[int, int]:
        width, height = self._still.size
        over = -width % factor, -height % factor
        orientation = self._still.orientation
        across, down = reversed(over) if orientation in _TRANSPOSED else over
        return -across if orientation in _MIRRORED_X else 0, -down if orientation in _MIRRORED_Y else 0
