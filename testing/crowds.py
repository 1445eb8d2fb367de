"""Crowds made of portraits, with the true boxes of their faces; and textures that show no face."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]

MARGIN = 0.3
"""Of a face's box, around it: hair, chin and neck, without which a detector sees no head."""
FEATHER = 0.08
"""Of a cut-out's sides: how far it fades into the background."""
CELL = 64


@dataclass(frozen=True, slots=True)
class Portrait:
    """A photo of one person, and the box (x1, y1, x2, y2) of the face in it."""

    image: Image
    box: Boxes


@dataclass(frozen=True, slots=True)
class Crowd:
    """An image, and the boxes [N, 4] of the faces in it."""

    image: Image
    boxes: Boxes
    hidden: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    """Of faces that another one covers in part: they may be found or not."""

    def widths(self) -> NDArray[np.float32]:
        return self.boxes[:, 2] - self.boxes[:, 0]


def crowd(
    portraits: Sequence[Portrait], width: int, height: int, faces: int, sizes: tuple[float, float], *, seed: int = 0
) -> Crowd:
    """A `width` × `height` image of `faces` faces, or of as many as fit; none hides another.

    `sizes`: least and greatest width of a face's box, in pixels; between them sizes are spread by their logarithm.
    """
    rng = np.random.default_rng(seed)
    low, high = np.log(sizes)
    widths = np.exp(np.linspace(high, low, faces)) if faces > 1 else np.array([sizes[1]])
    return _placed(portraits, background(width, height, rng), widths, rng)


def with_large_face(portraits: Sequence[Portrait], base: Crowd, share: float, *, seed: int = 1) -> Crowd:
    """The crowd in front of which one more face stands, `share` of the image's shorter side wide; hidden ones do not
    count."""
    rng = np.random.default_rng(seed)
    image = base.image.copy()
    height, width = image.shape[:2]
    piece, box = _cut_out(portraits[int(rng.integers(len(portraits)))], share * min(width, height), rng)
    x, y = (width - piece.shape[1]) // 2, (height - piece.shape[0]) // 2
    piece, x, y = _within(piece, x, y, width, height)
    _paste(image, piece, x, y)
    new = box + np.array([(width - box[0] - box[2]) / 2, (height - box[1] - box[3]) / 2] * 2, np.float32)
    hidden = _touches(base.boxes, np.array([x, y, x + piece.shape[1], y + piece.shape[0]], np.float32))
    boxes = np.concatenate((new[np.newaxis].astype(np.float32), base.boxes[~hidden]))
    return Crowd(image, boxes, base.boxes[hidden])


def background(width: int, height: int, rng: np.random.Generator) -> Image:
    """Soft, coloured clouds: neither flat nor like a face."""
    coarse = rng.integers(60, 190, (max(2, height // 160), max(2, width // 160), 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _placed(
    portraits: Sequence[Portrait], canvas: Image, widths: NDArray[np.float64], rng: np.random.Generator
) -> Crowd:
    height, width = canvas.shape[:2]
    taken = np.zeros((-(-height // CELL) * CELL // 4, -(-width // CELL) * CELL // 4), np.bool_)
    boxes = []
    for number, wanted in enumerate(widths):
        piece, box = _cut_out(portraits[number % len(portraits)], float(wanted), rng)
        place = _free(taken, piece.shape[1], piece.shape[0], width, height, rng, at_edge=number % 5 == 0)
        if place is None:
            continue
        x, y = place
        _paste(canvas, piece, x, y)
        taken[y // 4 : -(-(y + piece.shape[0]) // 4), x // 4 : -(-(x + piece.shape[1]) // 4)] = True
        boxes.append(box + np.array([x, y, x, y], np.float32))
    return Crowd(canvas, np.array(boxes, np.float32).reshape(-1, 4))


def _free(
    taken: NDArray[np.bool_], w: int, h: int, width: int, height: int, rng: np.random.Generator, *, at_edge: bool
) -> tuple[int, int] | None:
    """Where a piece of `w` × `h` pixels covers nothing that is taken; `at_edge`: at one of the image's edges."""
    if w > width or h > height:
        return None
    for _ in range(400):
        x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        if at_edge:
            x, y = [(0, y), (width - w, y), (x, 0), (x, height - h)][int(rng.integers(4))]
        if not taken[y // 4 : -(-(y + h) // 4), x // 4 : -(-(x + w) // 4)].any():
            return x, y
    return None


def _cut_out(portrait: Portrait, wanted: float, rng: np.random.Generator) -> tuple[Image, Boxes]:
    """The head, its face `wanted` pixels wide, with its face's box; some are mirrored, lighter or darker."""
    x1, y1, x2, y2 = (float(value) for value in portrait.box)
    mx, my = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    height, width = portrait.image.shape[:2]
    left, top = max(0, int(x1 - mx)), max(0, int(y1 - my))
    right, bottom = min(width, int(x2 + mx)), min(height, int(y2 + my))
    part = portrait.image[top:bottom, left:right]
    scale = wanted / (x2 - x1)
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    resized = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    sx, sy = size[0] / part.shape[1], size[1] / part.shape[0]
    box = np.array([(x1 - left) * sx, (y1 - top) * sy, (x2 - left) * sx, (y2 - top) * sy], np.float32)
    if rng.random() < 0.5:
        resized = cv2.flip(resized, 1)
        box[[0, 2]] = size[0] - box[[2, 0]]
    lit = cv2.convertScaleAbs(resized, alpha=float(rng.uniform(0.75, 1.15)), beta=float(rng.uniform(-10, 15)))
    return np.asarray(lit, np.uint8), box


def _paste(canvas: Image, piece: Image, x: int, y: int) -> None:
    h, w = piece.shape[:2]
    ramp_y, ramp_x = _ramp(h, y == 0, y + h == canvas.shape[0]), _ramp(w, x == 0, x + w == canvas.shape[1])
    alpha = (ramp_y[:, np.newaxis] * ramp_x)[..., np.newaxis]
    under = canvas[y : y + h, x : x + w]
    canvas[y : y + h, x : x + w] = (piece * alpha + under * (1 - alpha) + 0.5).astype(np.uint8)


def _ramp(length: int, first_edge: bool, last_edge: bool) -> Boxes:
    """Weights that rise from the start and fall to the end, but not where the image ends."""
    fade = max(1.0, FEATHER * length)
    at = np.arange(length, dtype=np.float32) + 0.5
    up = np.ones(length, np.float32) if first_edge else np.minimum(at / fade, 1)
    down = np.ones(length, np.float32) if last_edge else np.minimum((length - at) / fade, 1)
    return np.asarray(up * down, np.float32)


def _within(piece: Image, x: int, y: int, width: int, height: int) -> tuple[Image, int, int]:
    left, top = max(0, -x), max(0, -y)
    piece = piece[top : top + height - max(0, y), left : left + width - max(0, x)]
    return piece, max(0, x), max(0, y)


def _touches(boxes: Boxes, area: Boxes) -> NDArray[np.bool_]:
    apart = (boxes[:, 2:] <= area[:2]).any(1) | (boxes[:, :2] >= area[2:]).any(1)
    return np.asarray(~apart, np.bool_)


# --- comparing


def overlaps(truth: Boxes, found: Boxes) -> NDArray[np.float32]:
    """Intersection over union of each true box with each found one, [N, M]."""
    sides = np.minimum(truth[:, None, 2:], found[None, :, 2:]) - np.maximum(truth[:, None, :2], found[None, :, :2])
    shared = np.maximum(sides, 0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (truth, found)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9), np.float32)


def hits(truth: Boxes, found: Boxes, least: float = 0.4) -> NDArray[np.intp]:
    """For each true box the found one that is it, -1 if there is none; no found box counts twice.

    `least`: the intersection over union from which it is the same face.
    """
    pairs = np.full(len(truth), -1, np.intp)
    if not len(truth) or not len(found):
        return pairs
    shared = overlaps(truth, found)
    while shared.max() >= least:
        one, other = np.unravel_index(int(shared.argmax()), shared.shape)
        pairs[one] = other
        shared[one], shared[:, other] = 0, 0
    return pairs


def false_alarms(made: Crowd, found: Boxes) -> NDArray[np.intp]:
    """The found boxes that are no face of the crowd, nor what is left of a hidden one. The second box of a face is one.

    Boxes of tiny faces are rough: a fifth of overlap is enough here.
    """
    known = hits(made.boxes, found, 0.2)
    doubtful = np.flatnonzero((overlaps(made.hidden, found) > 0.1).any(axis=0))
    return np.setdiff1d(np.arange(len(found)), np.concatenate((known, doubtful)))


# --- textures


def textures(count: int, *, seed: int = 0) -> Iterator[tuple[str, Image]]:
    """Images without a face, each with its kind; kinds take turns, sizes and colours vary."""
    rng = np.random.default_rng(seed)
    kinds = list(TEXTURES)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        width, height = (int(side) for side in rng.integers(300, 1600, 2))
        yield kind, TEXTURES[kind](width, height, rng)


def _fractal(width: int, height: int, rng: np.random.Generator) -> Image:
    """Noise whose power falls with frequency, as in clouds and rocks."""
    total = np.zeros((height, width, 3), np.float32)
    roughness = rng.uniform(0.4, 0.8)
    for octave in range(2, 9):
        grid = rng.standard_normal((2**octave, 2**octave, 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(roughness**octave)
    return _stretched(total)


def _white_noise(width: int, height: int, rng: np.random.Generator) -> Image:
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def _foliage(width: int, height: int, rng: np.random.Generator) -> Image:
    image = np.full((height, width, 3), (20, 40, 15), np.uint8)
    for _ in range(width * height // 500):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(4, 40)), int(rng.integers(2, 14))
        green = int(rng.integers(60, 200))
        colour = int(rng.integers(10, 80)), green, int(rng.integers(20, green))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 360)), 0, 360, colour, -1, cv2.LINE_AA)
    return image


def _bricks(width: int, height: int, rng: np.random.Generator) -> Image:
    image = np.full((height, width, 3), 170, np.uint8)
    tall, wide = int(rng.integers(14, 60)), int(rng.integers(30, 140))
    for row, y in enumerate(range(0, height, tall)):
        for x in range(-wide * (row % 2) // 2, width, wide):
            red = int(rng.integers(90, 190))
            cv2.rectangle(image, (x, y), (x + wide - 4, y + tall - 4), (red // 3, red // 2, red), -1)
    return _grained(image, rng)


def _text(width: int, height: int, rng: np.random.Generator) -> Image:
    image = np.full((height, width, 3), int(rng.integers(200, 256)), np.uint8)
    size, font = float(rng.uniform(0.4, 2.5)), int(rng.integers(0, 8))
    for y in range(20, height, int(34 * size)):
        line = "".join(chr(int(code)) for code in rng.integers(33, 127, 200))
        cv2.putText(image, line, (10, y), font, size, (30, 30, 30), max(1, int(size)), cv2.LINE_AA)
    return image


def _gradient(width: int, height: int, rng: np.random.Generator) -> Image:
    corners = rng.integers(0, 256, (2, 2, 3), np.uint8)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _checker(width: int, height: int, rng: np.random.Generator) -> Image:
    side = int(rng.integers(3, 90))
    odd = (np.add.outer(np.arange(height) // side, np.arange(width) // side) % 2)[..., np.newaxis]
    light, dark = rng.integers(128, 256, 3), rng.integers(0, 128, 3)
    return np.where(odd, light, dark).astype(np.uint8)


def _waves(width: int, height: int, rng: np.random.Generator) -> Image:
    """Wood, water, fabric: sines bent by noise."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bend = cv2.resize(rng.standard_normal((8, 8)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    phase = x * rng.uniform(0.02, 0.5) + y * rng.uniform(0.0, 0.3) + bend * rng.uniform(0, 12)
    shade = np.sin(phase)[..., np.newaxis] * rng.uniform(20, 90, 3) + rng.uniform(80, 170, 3)
    return np.asarray(np.clip(shade, 0, 255), np.uint8)


def _pebbles(width: int, height: int, rng: np.random.Generator) -> Image:
    """Round things of all sizes, shaded, in pairs and alone."""
    image = np.full((height, width, 3), int(rng.integers(40, 120)), np.uint8)
    for _ in range(width * height // 1500):
        x, y, radius = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(4, 60))
        tone = int(rng.integers(60, 220))
        cv2.circle(image, (x, y), radius, (tone, tone, int(min(255, tone + 20))), -1, cv2.LINE_AA)
        cv2.circle(image, (x - radius // 3, y - radius // 3), radius // 3, (tone + 25,) * 3, -1, cv2.LINE_AA)
    return image


def _windows(width: int, height: int, rng: np.random.Generator) -> Image:
    """A front of a house: dark windows and doors in rows, at eye's distance."""
    image = np.full((height, width, 3), rng.integers(120, 220, 3), np.uint8)
    step = int(rng.integers(24, 200))
    for y in range(step // 3, height, step):
        for x in range(step // 3, width, step):
            dark = int(rng.integers(10, 90))
            cv2.rectangle(image, (x, y), (x + step // 2, y + step // 2 + step // 8), (dark + 20, dark, dark), -1)
            cv2.line(image, (x + step // 4, y), (x + step // 4, y + step // 2), (200, 200, 200), max(1, step // 30))
    return _grained(image, rng)


def _fur(width: int, height: int, rng: np.random.Generator) -> Image:
    image = np.full((height, width, 3), (50, 70, 100), np.uint8)
    lean = float(rng.uniform(0, np.pi))
    for _ in range(width * height // 150):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        angle, length = lean + float(rng.normal(0, 0.3)), float(rng.uniform(6, 30))
        end = int(x + length * np.cos(angle)), int(y + length * np.sin(angle))
        tone = int(rng.integers(40, 200))
        cv2.line(image, (x, y), end, (tone // 2, tone * 3 // 4, tone), 1, cv2.LINE_AA)
    return image


def _grained(image: Image, rng: np.random.Generator) -> Image:
    grain = rng.normal(0, 8, image.shape[:2])[..., np.newaxis]
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _stretched(values: NDArray[np.float32]) -> Image:
    low, high = np.percentile(values, (1, 99))
    return np.asarray(np.clip((values - low) / max(1e-6, high - low) * 255, 0, 255), np.uint8)


TEXTURES: dict[str, Callable[[int, int, np.random.Generator], Image]] = {
    "fractal noise": _fractal,
    "white noise": _white_noise,
    "foliage": _foliage,
    "bricks": _bricks,
    "text": _text,
    "gradient": _gradient,
    "checker": _checker,
    "waves": _waves,
    "pebbles": _pebbles,
    "windows": _windows,
    "fur": _fur,
}
