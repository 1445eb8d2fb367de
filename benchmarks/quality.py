"""Calibrates `quality`: damages portraits, and fits how the signs of damage tell whether a face still matches.

    .venv/bin/python benchmarks/quality.py PHOTOS… [--recogniser NAME] [--plot FILE.svg]

PHOTOS are folders. Every face of at least 50 pixels in their photos is a portrait; photos whose names are equal
up to the last `_` show one person. Each portrait is damaged in many ways and goes through the whole pipeline. A
damaged face matches if its cosine to the undamaged portrait reaches the recogniser's `same_threshold`. Prints
the constants of `mien/vision/quality.py`, how well they tell matches apart (cross-validated by portrait), and
the share of faces that match by quality; the same for other photos of the person, where there are any. The plot
shows both.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike

from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels
from mien.faces.loading import load_pipeline
from mien.faces.pipeline import Face, FaceOptions, FacePipeline
from mien.inference.loading import ModelLoader
from mien.settings import Settings
from mien.vision.align import align
from mien.vision.quality import Signs, signs_of
from mien.vision.types import Array, Image
from mien.zoo.selection import required_models
from mien.zoo.zoo import Zoo

FACE = 120.0
"""Pixels to which the face of a larger portrait is reduced."""
LEAST_FACE = 50
SEED = 1
FOLDS = 5
Damage = Callable[[MatLike, float, np.random.Generator], MatLike]


# --- damage: image, width of the face in pixels, random numbers


def smaller(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    """A face of 10 to 92 pixels."""
    factor = 10 * 2 ** rng.uniform(0, 3.2) / width
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image


def blurred(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.01, 0.1) * width)


def moved(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    """Blurred along a line."""
    side = max(3, int(rng.uniform(0.03, 0.33) * width) | 1)
    kernel, angle, middle = np.zeros((side, side), np.float32), rng.uniform(0, np.pi), side // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    start, end = (tuple(int(v) for v in middle + sign * reach) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0, 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def noisy(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    return pixels(np.clip(image + rng.normal(0, rng.uniform(5, 80), image.shape), 0, 255))


def compressed(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(1, 30))])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def turned(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    rows, columns = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), rng.uniform(-60, 60), 1)
    return cv2.warpAffine(image, matrix, (columns, rows), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def covered(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    """A square of 0.15 to 0.8 face widths in one colour, somewhere on the face."""
    image = image.copy()
    centre = np.array(image.shape[1::-1]) / 2 + rng.uniform(-0.55, 0.55, 2) * width
    half = rng.uniform(0.15, 0.8) * width / 2
    x1, y1, x2, y2 = (int(value) for sign in (-1, 1) for value in centre + sign * half)
    cv2.rectangle(image, (x1, y1), (x2, y2), rng.integers(0, 255, 3).tolist(), cv2.FILLED)
    return image


def darkened(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    return (image * rng.uniform(0.03, 0.43)).astype(np.uint8)


IN_ORDER: tuple[Damage, ...] = (turned, covered, darkened, moved, blurred, smaller, noisy, compressed)
"""As it happens: first to the scene, then to the image."""


def mixed(image: MatLike, width: float, rng: np.random.Generator) -> MatLike:
    """Two kinds of damage."""
    for place in sorted(rng.choice(len(IN_ORDER), 2, replace=False)):
        image = IN_ORDER[place](image, width, rng)
    return image


TIMES: dict[Damage, int] = {
    smaller: 5, blurred: 4, moved: 3, noisy: 3, compressed: 3, turned: 4, covered: 4, darkened: 2, mixed: 8,
}  # fmt: skip


# --- faces


@dataclass(frozen=True)
class Portrait:
    """One face, cut out of its photo, and what the pipeline says of it."""

    person: str
    image: Image
    face: Face

    @property
    def width(self) -> float:
        return float(self.face.box[2] - self.face.box[0])

    @property
    def vector(self) -> Array:
        assert self.face.vector is not None
        return self.face.vector


@dataclass(frozen=True)
class Sample:
    """A damaged face."""

    portrait: int
    damage: str
    signs: Signs
    own: float
    """Cosine to the undamaged portrait."""
    others: tuple[float, ...]
    """Cosines to other photos of the person."""


def load(recogniser: str) -> tuple[FacePipeline, float]:
    """The pipeline, and the cosine from which faces match."""
    settings = Settings(recogniser=recogniser, threads=1)
    zoo = Zoo.from_settings(settings)
    loader = ModelLoader(
        settings.execution, settings.locations.cache_dir, LoadedModels(threads=1, providers=("cpu",)), zoo
    )
    paths = zoo.ensure_all(required_models(settings.models))
    return load_pipeline(settings.models, 256, loader, paths), zoo.manifest(recogniser).same_threshold or 0.4


def pixels(image: MatLike) -> Image:
    return np.ascontiguousarray(image, np.uint8)


def faces_of(pipeline: FacePipeline, image: MatLike) -> tuple[Face, ...]:
    return pipeline.analyse(pixels(image), FaceOptions(threshold=0.6, landmarks=True), CancelScope()).faces


def largest(faces: Sequence[Face]) -> Face | None:
    return max(faces, key=lambda face: float(face.box[2] - face.box[0]), default=None)


def cut_out(image: MatLike, face: Face) -> Image:
    """The face with its surroundings, 3.2 times its longer side, reduced to FACE pixels."""
    centre, reach = (face.box[:2] + face.box[2:]) / 2, 1.6 * float((face.box[2:] - face.box[:2]).max())
    x1, y1 = np.maximum(centre - reach, 0).astype(int)
    x2, y2 = np.minimum(centre + reach, image.shape[1::-1]).astype(int)
    factor = min(1.0, FACE / float(face.box[2] - face.box[0]))
    return pixels(cv2.resize(image[y1:y2, x1:x2], None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def portraits(pipeline: FacePipeline, folders: Sequence[Path]) -> list[Portrait]:
    found = []
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        image = cv2.imread(str(path))
        if image is None:
            continue
        good = [f for f in faces_of(pipeline, image) if f.box[2] - f.box[0] >= LEAST_FACE and f.score > 0.8]
        for number, face in enumerate(good):
            part = cut_out(image, face)
            if (again := largest(faces_of(pipeline, part))) is not None:
                person = path.stem.rsplit("_", 1)[0] if len(good) == 1 else f"{path.stem}#{number}"
                found.append(Portrait(person, part, again))
    return found


def samples(pipeline: FacePipeline, known: Sequence[Portrait]) -> tuple[list[Sample], int]:
    """The damaged faces that were found, and how many damaged images there were."""
    rng, found, images = np.random.default_rng(SEED), [], 0
    for number, portrait in enumerate(known):
        others = [p.vector for n, p in enumerate(known) if p.person == portrait.person and n != number]
        for damage, times in TIMES.items():
            for _ in range(times):
                images += 1
                image = pixels(damage(portrait.image, portrait.width, rng))
                face = largest(faces_of(pipeline, image))
                if face is not None and face.vector is not None and face.norm is not None:
                    signs = signs_of(align(image, face.landmarks), face.landmarks, face.norm)
                    own = float(face.vector @ portrait.vector)
                    cosines = tuple(float(face.vector @ vector) for vector in others)
                    found.append(Sample(number, damage.__name__, signs, own, cosines))
    return found, images


# --- the fit


def table(found: Sequence[Sample]) -> np.ndarray:
    """Rows of 1, norm, size, sharpness, roll / 90."""
    rows = [(1, s.signs.norm, s.signs.size, s.signs.sharpness, s.signs.roll / 90) for s in found]
    return np.array(rows, np.float64)


SIGN = np.array([0, 1, 1, 1, -1])
"""Which weights may not be negative, and which not positive: no sign of damage raises the quality."""


def fitted(rows: np.ndarray, matched: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Weights of the logistic regression: projected, accelerated gradient descent on standardised columns."""
    mean, deviation = rows.mean(0), rows.std(0) + 1e-9
    mean[0], deviation[0] = 0, 1
    scaled = (rows - mean) / deviation * used
    step = 4 / np.linalg.eigvalsh(scaled.T @ scaled / len(rows))[-1]
    weights = ahead = np.zeros(rows.shape[1])
    pace = 1.0
    for _ in range(4000):
        error = 1 / (1 + np.exp(-scaled @ ahead)) - matched
        moved_to = ahead - step * (scaled.T @ error / len(rows) + 1e-3 * ahead * (SIGN != 0))
        moved_to = np.where(SIGN * moved_to < 0, 0, moved_to) * used
        next_pace = (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead = moved_to + (pace - 1) / next_pace * (moved_to - weights)
        weights, pace = moved_to, next_pace
    result: np.ndarray = weights / deviation
    result[0] -= (weights * mean / deviation)[1:].sum()
    return result


def cross_validated(found: Sequence[Sample], matched: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The quality of each sample by weights that were fitted without its portrait."""
    rows, fold = table(found), np.array([sample.portrait % FOLDS for sample in found])
    quality = np.zeros(len(found))
    for left_out in range(FOLDS):
        weights = fitted(rows[fold != left_out], matched[fold != left_out], used)
        quality[fold == left_out] = 1 / (1 + np.exp(-rows[fold == left_out] @ weights))
    return quality


def auc(quality: np.ndarray, matched: np.ndarray) -> float:
    good, bad = quality[matched > 0.5], quality[matched <= 0.5]
    return float((good[:, None] > bad).mean() + (good[:, None] == bad).mean() / 2)


# --- the report

EDGES = np.linspace(0, 1, 11)


def shares(quality: np.ndarray, matched: np.ndarray) -> list[tuple[float, float, int]]:
    """For each tenth of the scale: its middle, the share that matches, and how many there are."""
    place = np.clip((quality * 10).astype(int), 0, 9)
    return [
        (float(EDGES[i] + 0.05), float(matched[place == i].mean()), int((place == i).sum()))
        for i in range(10)
        if (place == i).any()
    ]


def plot(curves: Sequence[tuple[str, str, list[tuple[float, float, int]]]]) -> str:
    """Share that matches by quality, as SVG. Curves: label, colour, points."""
    left, top, side = 60, 20, 320

    def at(x: float, y: float) -> str:
        return f"{left + x * side:.1f},{top + (1 - y) * side:.1f}"

    size = f'width="{left + side + 20}" height="{top + side + 60}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + tick * side, top + (1 - tick) * side
        lines += [
            f'<path d="M{left} {y}H{left + side}M{x} {top}V{top + side}" stroke="#ddd"/>',
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>',
            f'<text x="{x}" y="{top + side + 18}" text-anchor="middle">{tick:g}</text>',
        ]
    lines.append(f'<polyline points="{at(0, 0)} {at(1, 1)}" fill="none" stroke="#999" stroke-dasharray="4"/>')
    for row, (label, colour, points) in enumerate(curves):
        path = " ".join(at(x, y) for x, y, _ in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{left + 10}" y="{top + 20 + 16 * row}" fill="{colour}">{label}</text>')
    lines.append(f'<text x="{left + side / 2}" y="{top + side + 42}" text-anchor="middle">quality</text>')
    turn = f'transform="rotate(-90 14 {top + side / 2})"'
    label = "share of damaged faces that match"
    lines.append(f'<text x="14" y="{top + side / 2}" {turn} text-anchor="middle">{label}</text></svg>\n')
    return "\n".join(lines)


def report(found: Sequence[Sample], threshold: float) -> list[tuple[str, str, list[tuple[float, float, int]]]]:
    own = np.array([sample.own >= threshold for sample in found], np.float64)
    everything, without_norm = np.ones(5), np.array([1, 0, 1, 1, 1])
    for label, used in (("all signs", everything), ("without the norm", without_norm)):
        quality = cross_validated(found, own, used)
        bias, norm, size, sharpness, roll = fitted(table(found), own, used)
        print(f"{label}: AUC {auc(quality, own):.3f}")
        print(f"  Calibration({bias=:.2f}, {norm=:.2f}, {size=:.2f}, {sharpness=:.2f}, {roll=:.2f})")
    quality = cross_validated(found, own, everything)
    known = np.array([bool(sample.others) for sample in found])
    other = np.array([np.mean([c >= threshold for c in s.others]) for s in found if s.others])
    curves = [("the undamaged photo", "#1668b8", shares(quality, own))]
    if known.any():
        curves.append(("other photos of the person", "#c0392b", shares(quality[known], other)))
    for label, _, points in curves:
        print(f"{label}: " + "  ".join(f"{x:.2f}: {y:.2f} ({n})" for x, y, n in points))
    for kind in dict.fromkeys(sample.damage for sample in found):
        of_kind = np.array([sample.damage == kind for sample in found])
        print(f"{kind:12s} {of_kind.sum():5d}  match {own[of_kind].mean():.2f}  quality {quality[of_kind].mean():.2f}")
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--recogniser", default="fr_feature")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    pipeline, threshold = load(given.recogniser)
    known = portraits(pipeline, given.photos)
    found, images = samples(pipeline, known)
    people = len({portrait.person for portrait in known})
    print(f"{len(known)} portraits of {people} people, {images} damaged images, {len(found)} faces found")
    curves = report(found, threshold)
    if given.plot:
        given.plot.write_text(plot(curves))


if __name__ == "__main__":
    main()
