"""A photo of which no more pixels are decoded than are needed.

A decoder of JPEG can leave out detail for much less than it costs to decode all of it and to shrink the result.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from mien.vision.formats.still import Still
from mien.vision.image import decode_still, open_still
from mien.vision.types import Array, Image

FACTORS = (8, 4, 2)
"""Others, such as 8/7, are slower than decoding everything."""
USUAL_SIDE = 1600
"""A view is not smaller than this longest side, in pixels: to decode fewer saves little, and faces that need more
pixels cost a second pass over the data."""
ENOUGH = 0.9
"""Share of the rows from which on all of them are decoded."""
_LARGEST_MCU = 32
"""Rows that are coded together, at most."""
_STEP = 64
"""Where views of a part begin: whoever averages pixels there averages the same ones as in a view of all."""
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
    """Where the view begins, in pixels of the image: less than 0 if it passes the edge, more if it is of a part."""
    top: int = 0

    @property
    def whole(self) -> bool:
        """Its coordinates are those of the image."""
        return self.factor == 1 and not (self.left or self.top)

    def moved(self, coordinates: Array) -> Array:
        """Coordinates [..., 2 or 4] (x, y, …) that count from where the view begins, from where the image does."""
        if not (self.left or self.top):
            return coordinates
        corner = np.array([self.left, self.top] * (coordinates.shape[-1] // 2), np.float32)
        return (coordinates + corner).astype(np.float32)

    def edges_of(self, boxes: Array) -> Array:
        """The `boxes` [..., 4] (x1, y1, x2, y2, pixels of the image) in pixels of the view."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        return boxes if self.whole else ((boxes - corner) / np.float32(self.factor)).astype(np.float32)

    def points_of(self, points: Array) -> Array:
        """The `points` [..., 2] (centres of pixels of the image) as centres of pixels of the view."""
        if self.whole:
            return points
        corner = np.array([self.left, self.top], np.float32)
        return ((points - corner + 0.5) / np.float32(self.factor) - 0.5).astype(np.float32)

    def edges_on_image(self, boxes: Array) -> Array:
        """The inverse of `edges_of`."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        return boxes if self.whole else (boxes * np.float32(self.factor) + corner).astype(np.float32)

    def points_on_image(self, points: Array) -> Array:
        """The inverse of `points_of`."""
        if self.whole:
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
    def of(cls, image: "Photo | Image") -> "Photo":
        """A photo whose pixels [H, W, 3] have been decoded; a photo itself."""
        if isinstance(image, Photo):
            return image
        height, width = image.shape[:2]
        photo = cls(Still("pixels", (width, height), b""))
        photo._view = View(image)
        return photo

    def view(self, scale: float) -> View:
        """The smallest view with at least `scale` (≤ 1) pixels per pixel of the image, on each side; a finer one if the
        image has been decoded finer. Raises ImageTruncated."""
        factor = self._factor(max(scale, min(1.0, USUAL_SIDE / max(self.width, self.height))))
        if self._view is None or self._view.factor > factor:
            self._view = self._decoded(self._still, factor)
        return self._view

    def factor_for(self, scale: float) -> int:
        """Pixels of the image per pixel of the view in which something is seen that takes at least `scale`: at most
        that of the last `view`."""
        return min(self._factor(scale), self.view(0).factor)

    def close_view(self, factor: int, part: Array) -> View:
        """The view with this `factor`, or at least the part [4] (x1, y1, x2, y2) of it, in pixels of the image.

        What comes after the part in the file is not decoded again. Raises ImageTruncated.
        """
        if self.view(0).factor == factor:
            return self.view(0)
        first = self._first_rows(self._rows(part))
        return self._decoded(self._still if first is None else first, factor)

    def pixels(self) -> Image:
        """All of them. Raises ImageTruncated."""
        return self.view(1).pixels

    def _decoded(self, still: Still, factor: int) -> View:
        started = time.perf_counter()
        pixels = decode_still(still, factor)
        self.decode_seconds += time.perf_counter() - started
        across = self._spare(pixels.shape[1], self.width, factor) if self._still.orientation in _MIRRORED_X else 0
        down = self._spare(pixels.shape[0], self.height, factor) if self._still.orientation in _MIRRORED_Y else 0
        left, top = self._corner(pixels, factor)
        left, top = left + across * factor, top + down * factor
        # Without the last row and column if they are of fewer pixels, as shrinking all pixels would leave them out.
        rows, columns = max(1, (self.height - top) // factor), max(1, (self.width - left) // factor)
        return View(pixels[down:, across:][:rows, :columns], factor, left, top)

    @staticmethod
    def _spare(side: int, whole: int, factor: int) -> int:
        """Pixels of a part that are left out, so that it begins a whole number of steps after the view of all."""
        return (side - math.ceil(whole / factor)) % _STEP

    def _factor(self, scale: float) -> int:
        return next((factor for factor in FACTORS if self._still.shrinks and factor * scale <= 1), 1)

    def _corner(self, pixels: Image, factor: int) -> tuple[int, int]:
        """Where a view of these pixels begins: where the stored image begins, or the last of its pixels that are
        decoded."""
        height, width = pixels.shape[:2]
        orientation = self._still.orientation
        left = self.width - width * factor if orientation in _MIRRORED_X else 0
        return left, self.height - height * factor if orientation in _MIRRORED_Y else 0

    def _rows(self, part: Array) -> int:
        """How many rows of the stored image hold this part."""
        x1, y1, x2, y2 = (float(value) for value in part)
        orientation = self._still.orientation
        if orientation in _TRANSPOSED:
            last = self.width - x1 if orientation in _MIRRORED_X else x2
        else:
            last = self.height - y1 if orientation in _MIRRORED_Y else y2
        return max(1, math.ceil(last / _LARGEST_MCU)) * _LARGEST_MCU

    def _first_rows(self, rows: int) -> Still | None:
        """The image without what comes after so many rows; None if that is too little or cannot be done."""
        at, (width, height) = self._still.height_at, self._still.size
        if at is None or rows > ENOUGH * height:
            return None
        data = bytearray(self._still.data)
        data[at : at + 2] = rows.to_bytes(2, "big")
        return replace(self._still, data=bytes(data), size=(width, rows))
