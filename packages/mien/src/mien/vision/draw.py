"""Draws detections on an image, legibly at any size."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg

from mien.vision.types import Array, Detections, Image

Colour = tuple[int, int, int]

GREEN: Colour = (80, 200, 60)
RED: Colour = (60, 60, 230)
POINTS: tuple[Colour, ...] = ((60, 60, 240), (240, 140, 60), (60, 220, 240), (220, 80, 220), (240, 220, 60))
"""BGR, one for each landmark: both eyes, nose, both mouth corners."""
_INK: Colour = (20, 20, 20)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22
"""Height of a capital letter in pixels at font scale 1."""
_LINE_SHARE = 0.03
"""Most of a face's width that the line around it takes."""
_OUTLINED = 40
"""Width in pixels from which a face has room for outlines around its landmarks."""


@dataclass(frozen=True, slots=True)
class _Pen:
    line: int
    font: float
    margin: int

    @property
    def weight(self) -> int:
        return max(1, round(self.font * 1.4))

    def for_box(self, box: Array) -> "_Pen":
        """The pen for a face: on a small one, the lines of a large image would cover it."""
        width = float(box[2] - box[0])
        letters = min(self.font * _FONT_HEIGHT, max(7.0, width * 0.14))
        return _pen_of(min(self.line, max(1, round(width * _LINE_SHARE))), letters)


def draw_detections(
    image: Image,
    detections: Detections,
    *,
    detector: str,
    landmarks: bool = True,
    scores: bool = True,
    sizes: bool = True,
    masks: Sequence[bool | None] = (),
) -> Image:
    """A copy of the image with a box around each face and `faces: N (detector)` at the bottom left.

    Scores are written on a tab above the box, its width in pixels on a tab below; landmarks are dots. `masks`, if
    given, has one value per face: boxes of faces without a mask are red.
    """
    canvas = image.copy()
    pen = _pen(image)
    for index, box in enumerate(_tamed(detections.boxes)):
        bare = index < len(masks) and masks[index] is False
        colour = RED if bare else GREEN
        own = pen.for_box(box)
        _draw_box(canvas, box, colour, own)
        if landmarks:
            _draw_landmarks(canvas, _tamed(detections.landmarks[index]), box, own)
        if sizes:
            _write_size(canvas, box, colour, own)
        if scores:
            _write_score(canvas, box, float(detections.scores[index]), colour, own)
    _write_total(canvas, f"faces: {len(detections)} ({detector})", pen)
    return canvas


def encode_jpeg(image: Image, quality: int = 95) -> bytes:
    """The image as a JPEG file. `quality`: 1..100; below 90, chroma is subsampled (4:2:0)."""
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality, "BGR", "444" if quality >= 90 else "420"
    )
    return encoded


def _pen(image: Image) -> _Pen:
    """The pen for an image: lines and letters grow with its size."""
    reach = float(np.sqrt(image.shape[0] * image.shape[1]))
    return _pen_of(max(1, round(reach / 400)), max(9.0, 0.021 * reach))


def _pen_of(line: int, letter_height: float) -> _Pen:
    return _Pen(line, letter_height / _FONT_HEIGHT, max(1, round(letter_height / 3)))


def _tamed(coordinates: Array) -> Array:
    """Clipped to the range in which OpenCV's fixed-point drawing does not overflow."""
    return np.nan_to_num(coordinates).clip(-30000, 30000)


def _corners(box: Array) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    return x1, y1, x2, y2


def _draw_box(canvas: Image, box: Array, colour: Colour, pen: _Pen) -> None:
    x1, y1, x2, y2 = _corners(box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, pen.line, cv2.LINE_AA)


def _draw_landmarks(canvas: Image, landmarks: Array, box: Array, pen: _Pen) -> None:
    width = float(box[2] - box[0])
    radius = max(0, min(round(width * 0.02), 3 * pen.line))
    points = landmarks.round().astype(int).tolist()
    for (x, y), colour in zip(points, POINTS, strict=True):
        if width >= _OUTLINED:
            cv2.circle(canvas, (x, y), radius + 1, _INK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)


def _write_score(canvas: Image, box: Array, score: float, colour: Colour, pen: _Pen) -> None:
    """On a tab above the box, or inside it if there is no space above."""
    text = f"{score:.2f}"
    width, height = _extent(text, pen)
    x1, y1, _, _ = _corners(box)
    top = y1 - height if y1 >= height else max(y1, 0)
    left = int(np.clip(x1, 0, max(0, canvas.shape[1] - width)))
    _tab(canvas, text, left, top, colour, pen)


def _write_size(canvas: Image, box: Array, colour: Colour, pen: _Pen) -> None:
    """On a tab below the box, or inside it if there is no space below."""
    x1, _, _, y2 = _corners(box)
    text = f"w:{int(box[2] - box[0])}"
    width, height = _extent(text, pen)
    top = y2 if y2 + height <= canvas.shape[0] else min(y2, canvas.shape[0]) - height
    left = int(np.clip(x1, 0, max(0, canvas.shape[1] - width)))
    _tab(canvas, text, left, top, colour, pen)


def _write_total(canvas: Image, text: str, pen: _Pen) -> None:
    _tab(canvas, text, 0, canvas.shape[0] - _extent(text, pen)[1], (255, 255, 255), pen)


def _extent(text: str, pen: _Pen) -> tuple[int, int]:
    """Width and height, in pixels, of a tab with that text."""
    (width, height), _ = cv2.getTextSize(text, _FONT, pen.font, pen.weight)
    return width + 2 * pen.margin, height + 2 * pen.margin


def _tab(canvas: Image, text: str, left: int, top: int, colour: Colour, pen: _Pen) -> None:
    width, height = _extent(text, pen)
    cv2.rectangle(canvas, (left, top), (left + width, top + height), colour, cv2.FILLED)
    origin = left + pen.margin, top + height - pen.margin
    cv2.putText(canvas, text, origin, _FONT, pen.font, _INK, pen.weight, cv2.LINE_AA)
